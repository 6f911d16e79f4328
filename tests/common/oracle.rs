//! GPT-2 as a textbook would write it, in f64, over the *unpacked* weights of an image: what an engine computes from
//! the same bytes may differ from this by rounding only.

use gpt2_kernels::format::unpack_row;
use gpt2_kernels::layout::{BLOCK, GROUP, Layout, Matrix, Norm};
use gpt2_web::checkpoint::{Activation, Config};

pub struct Oracle<'a> {
    pub config: &'a Config,
    pub layout: &'a Layout,
    pub image: &'a [u8],
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
}

impl Oracle<'_> {
    fn floats(&self, range: &std::ops::Range<usize>) -> Vec<f64> {
        floats(&self.image[range.clone()])
    }

    /// [R][K]
    fn matrix(&self, m: &Matrix) -> Vec<Vec<f64>> {
        let (group_bytes, n_blocks) = (m.group_bytes(), m.n_cols_padded() / BLOCK);
        let scales = self.floats(&m.row_scales);
        let row = |r: usize| {
            let (group, row) = (r / GROUP, r % GROUP);
            let quants = &self.image[m.quants.clone()][group * group_bytes..][..group_bytes];
            let blocks = self.image[m.block_scales.clone()].as_chunks::<8>().0;
            let blocks: Vec<[u16; 4]> = blocks
                .iter()
                .skip(group * n_blocks)
                .take(n_blocks)
                .map(|b| [0, 2, 4, 6].map(|i| u16::from_le_bytes([b[i], b[i + 1]])))
                .collect();
            let mut values = vec![0.0; m.n_cols];
            let scale = scales.get(r).map_or(1.0, |&s| s as f32);
            unpack_row(m.dtype, quants.as_chunks().0, &blocks, scale, row, &mut values);
            values.into_iter().map(f64::from).collect()
        };
        (0..m.n_rows).map(row).collect()
    }

    fn product(&self, m: &Matrix, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let w = self.matrix(m);
        let bias = if m.bias.is_empty() { vec![0.0; w.len()] } else { self.floats(&m.bias) };
        x.iter().map(|x| w.iter().zip(&bias).map(|(w, b)| dot(w, x) + b).collect()).collect()
    }

    fn norm(&self, norm: &Norm, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (weight, bias) = (self.floats(&norm.weight), self.floats(&norm.bias));
        let row = |x: &Vec<f64>| {
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + self.config.layer_norm_epsilon).sqrt();
            x.iter().zip(weight.iter().zip(&bias)).map(|(x, (w, b))| (x - mean) * scale * w + b).collect()
        };
        x.iter().map(row).collect()
    }

    /// Logits of every position, [T][V].
    pub fn logits(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config;
        let (wte, wpe) = (self.matrix(&self.layout.wte), self.floats(&self.layout.wpe));
        let embed =
            |(t, &id): (usize, &u32)| (0..c.n_embd).map(|i| wte[id as usize][i] + wpe[t * c.n_embd + i]).collect();
        let mut x: Vec<Vec<f64>> = ids.iter().enumerate().map(embed).collect(); // [T][C]
        for (layer, block) in self.layout.blocks.iter().enumerate() {
            let qkv = self.product(&block.c_attn, &self.norm(&block.ln_1, &x)); // [T][3 C]
            let attended = self.attend(&qkv, c.attn_scale(layer));
            add(&mut x, &self.product(&block.c_proj, &attended));
            let mut hidden = self.product(&block.c_fc, &self.norm(&block.ln_2, &x));
            hidden.iter_mut().flatten().for_each(|h| *h = activate(c.activation_function, *h));
            add(&mut x, &self.product(&block.mlp_c_proj, &hidden));
        }
        self.product(self.layout.head(), &self.norm(&self.layout.ln_f, &x))
    }

    fn attend(&self, qkv: &[Vec<f64>], scale: f64) -> Vec<Vec<f64>> {
        let (c, d) = (self.config.n_embd, self.config.head_dim());
        let mut attended = vec![vec![0.0; c]; qkv.len()];
        for (t, out) in attended.iter_mut().enumerate() {
            for h in 0..self.config.n_head {
                let part = |s: usize, which: usize| &qkv[s][which * c + h * d..][..d];
                let scores: Vec<f64> = (0..=t).map(|s| dot(part(t, 0), part(s, 1)) * scale).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (s, w) in weights.iter().enumerate() {
                    add_scaled(&mut out[h * d..][..d], part(s, 2), w / sum);
                }
            }
        }
        attended
    }
}

/// Eight at a time, because tests are compiled without optimisation and would spend their time between the numbers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (chunks_a, rest_a) = a.as_chunks::<8>();
    let (chunks_b, rest_b) = b.as_chunks::<8>();
    let mut sum: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        sum += a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
        sum += a[4] * b[4] + a[5] * b[5] + a[6] * b[6] + a[7] * b[7];
    }
    sum
}

/// y += x · factor, as above.
fn add_scaled(y: &mut [f64], x: &[f64], factor: f64) {
    let (chunks_y, rest_y) = y.as_chunks_mut::<4>();
    let (chunks_x, rest_x) = x.as_chunks::<4>();
    for (y, x) in chunks_y.iter_mut().zip(chunks_x) {
        *y = [y[0] + x[0] * factor, y[1] + x[1] * factor, y[2] + x[2] * factor, y[3] + x[3] * factor];
    }
    rest_y.iter_mut().zip(rest_x).for_each(|(y, x)| *y += x * factor);
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::GeluNew => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// By its Maclaurin series; beyond 6 it is ±1 to the last bit.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
