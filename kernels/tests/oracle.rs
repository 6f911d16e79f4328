//! Every kernel against a naive oracle in f64, on nasty input: lengths off the lane width, zeros, extremes, NaN.
//! The same tests run natively and, as WebAssembly, in the browser.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::activations::Activations;
use gpt2_kernels::cache::{Cache, PAGE, Query, padded_dim};
use gpt2_kernels::format::{pack_row, unpack_row};
use gpt2_kernels::layout::{ALIGN, BLOCK, GROUP};
use gpt2_kernels::norm::{activate, layer_norm};
use gpt2_kernels::pack::{Packer, write_into};
use gpt2_kernels::product::{Weights, Widened, product};
use gpt2_kernels::simd::F32x4;
use gpt2_kernels::{Activation, Dims, Dtype, Layout};

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// Numbers that repeat (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.next() as f64 / u64::MAX as f64 - 0.5).sum::<f64>() as f32 * 1.7
    }

    /// Mostly ordinary numbers, now and then a zero, an outlier or something tiny.
    fn nasty(&mut self, n: usize) -> Vec<f32> {
        let scale = [1.0, 1e-3, 50.0][self.below(3)];
        (0..n)
            .map(|_| match self.below(40) {
                0 => 0.0,
                1 => 100.0 * scale * self.normal(),
                2 => 1e-12 * self.normal(),
                _ => scale * self.normal(),
            })
            .collect()
    }
}

fn dims(n_embd: usize, n_head: usize, n_inner: usize) -> Dims {
    Dims {
        vocab_size: 13,
        n_positions: 200,
        n_embd,
        n_layer: 1,
        n_head,
        n_inner,
        activation: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        scale_attn_weights: true,
        scale_attn_by_inverse_layer_idx: false,
        tie_word_embeddings: false,
    }
}

/// A `mlp.c_fc` of these sizes in an image of its own: its layout, the image, W as unpacked [R, K], and the bias.
fn packed(rng: &mut Rng, dtype: Dtype, k: usize, r: usize) -> (Layout, Vec<u8>, Vec<f32>, Vec<f32>) {
    let layout = Layout::new(&dims(k, 1, r), dtype).expect("a layout");
    let mut image = vec![0; layout.n_bytes];
    let (columns, bias) = (rng.nasty(k * r), rng.nasty(r));
    let mut packer = Packer::new(layout.clone());
    for (name, values) in [("h.0.mlp.c_fc.weight", &columns), ("h.0.mlp.c_fc.bias", &bias)] {
        assert!(packer.begin(name).expect("room"));
        for piece in values.chunks(7) {
            packer.values(piece, &mut write_into(&mut image));
        }
        packer.end(&mut write_into(&mut image));
    }
    let m = &layout.blocks[0].c_fc;
    let mut rows = Vec::new();
    for row in 0..r {
        let quants = &image[m.quants.clone()][row / GROUP * m.group_bytes()..][..m.group_bytes()];
        let n_blocks = m.n_cols_padded() / BLOCK;
        let floats = |range: std::ops::Range<usize>| -> Vec<f32> { bytemuck::pod_collect_to_vec(&image[range]) };
        let halves: Vec<[u16; GROUP]> = bytemuck::pod_collect_to_vec(&image[m.block_scales.clone()]);
        let scales = halves.get(row / GROUP * n_blocks..).and_then(|h| h.get(..n_blocks)).unwrap_or(&[]);
        let row_scale = floats(m.row_scales.clone()).get(row).copied().unwrap_or(1.0);
        let mut values = vec![0.0; k];
        unpack_row(dtype, bytemuck::cast_slice(quants), scales, row_scale, row % GROUP, &mut values);
        rows.extend(values);
    }
    (layout, image, rows, bias)
}

/// Largest magnitude.
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m, x| m.max(x.abs()))
}

#[test]
fn products_equal_the_oracle_on_the_unpacked_weights() {
    let mut rng = Rng(1);
    for dtype in Dtype::ALL {
        for (k, r) in [(1, 1), (3, 5), (31, 4), (32, 7), (33, 8), (64, 12), (100, 9), (768, 6), (3072, 5)] {
            let (layout, image, rows, bias) = packed(&mut rng, dtype, k, r);
            for n_tokens in [1, 2, 3, 5] {
                let x: Vec<Vec<f32>> = (0..n_tokens).map(|_| rng.nasty(k)).collect();
                let mut activations = Activations::new(n_tokens, k);
                for (t, x) in x.iter().enumerate() {
                    activations.set(t, dtype, |into| into[..k].copy_from_slice(x));
                }
                let m = &layout.blocks[0].c_fc;
                let mut found = vec![f32::NAN; n_tokens * m.n_rows_padded()];
                let weights = Weights::new(m, &image);
                let n_groups = m.n_rows_padded() / GROUP;
                product(&weights, &activations, &mut Widened::default(), 0..n_groups, |group, t, y| {
                    found[t * n_groups * GROUP + group * GROUP..][..GROUP].copy_from_slice(&y.lanes());
                });
                for (t, x) in x.iter().enumerate() {
                    for row in 0..r {
                        let w = &rows[row * k..][..k];
                        let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let expected = terms().sum::<f64>() + f64::from(bias[row]);
                        // f32 sums round each term; integers round the activations, to 1/5000 of the largest at worst
                        let size: f64 = terms().map(f64::abs).sum::<f64>() + f64::from(bias[row].abs());
                        let step = if matches!(dtype, Dtype::Q8 | Dtype::Q4) { largest(x) / 20000.0 } else { 0.0 };
                        let rounding: f64 = w.iter().map(|w| f64::from(w.abs() * step)).sum();
                        let bound = 2e-6 * size + rounding + 1e-30;
                        let found = f64::from(found[t * n_groups * GROUP + row]);
                        assert!(
                            (found - expected).abs() <= bound,
                            "{} [{r}, {k}], token {t} of {n_tokens}, row {row}: expected {expected}, found {found}",
                            dtype.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn integer_sums_do_not_overflow_at_their_worst() {
    for k in [768, 3072, 6400, 16384] {
        let layout = Layout::new(&dims(4, 1, k), Dtype::Q8).expect("a layout");
        let mut image = vec![0; layout.n_bytes];
        let mut packer = Packer::new(layout.clone());
        assert!(packer.begin("h.0.mlp.c_proj.weight").expect("room"));
        packer.values(&vec![1.0; k * 4], &mut write_into(&mut image));
        packer.end(&mut write_into(&mut image));
        for n_tokens in [1, 2] {
            let mut x = Activations::new(n_tokens, k);
            (0..n_tokens).for_each(|t| x.set(t, Dtype::Q8, |into| into[..k].fill(-3.0)));
            let weights = Weights::new(&layout.blocks[0].mlp_c_proj, &image);
            product(&weights, &x, &mut Widened::default(), 0..1, |_, _, y| {
                let expected = -3.0 * k as f32;
                assert!(y.lanes().iter().all(|y| (y / expected - 1.0).abs() < 1e-4), "{k}: {:?}", y.lanes());
            });
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let mut rng = Rng(2);
    for dtype in Dtype::ALL {
        let (layout, image, ..) = packed(&mut rng, dtype, 40, 4);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 39] {
                let mut x = Activations::new(1, 40);
                x.set(0, dtype, |into| {
                    into[..40].fill(1.0);
                    into[at] = bad;
                });
                let weights = Weights::new(&layout.blocks[0].c_fc, &image);
                product(&weights, &x, &mut Widened::default(), 0..1, |_, _, y| {
                    assert!(y.lanes().iter().any(|y| !y.is_finite()), "{} {bad} at {at}", dtype.name());
                });
            }
        }
    }
}

#[test]
fn each_format_keeps_a_row_within_its_error() {
    let mut rng = Rng(3);
    let check = |dtype: Dtype, values: &[f32]| {
        let k = values.len().next_multiple_of(BLOCK);
        for row in 0..GROUP {
            let mut quants = vec![[0; 16]; k / dtype.chunk_values() * GROUP];
            let mut scales = vec![[0; GROUP]; k / BLOCK];
            let scale = pack_row(dtype, values, row, &mut quants, &mut scales);
            let mut found = vec![f32::NAN; values.len()];
            unpack_row(dtype, &quants, &scales, scale, row, &mut found);
            let m = largest(values);
            for (block, (found, values)) in found.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
                for (f, x) in found.iter().zip(values) {
                    let bound = match dtype {
                        Dtype::Fp32 => 0.0,
                        Dtype::Fp16 => x.abs() / 2048.0 + m / (1 << 28) as f32,
                        Dtype::Q8 => m / 254.0 * 1.0001,
                        // the best of the scales tried: no value is off by more than the widest of their steps
                        Dtype::Q4 => largest(values) / 6.5 + m / (1 << 28) as f32,
                    };
                    assert!((f - x).abs() <= bound + 1e-37, "{} block {block}: {x} became {f}", dtype.name());
                }
            }
        }
    };
    for dtype in Dtype::ALL {
        for n in [1, 5, 31, 32, 33, 64, 100] {
            for _ in 0..20 {
                check(dtype, &rng.nasty(n));
            }
            check(dtype, &vec![0.0; n]);
            check(dtype, &vec![-0.75; n]);
            check(dtype, &vec![3e38; n]);
            check(dtype, &vec![1e-30; n]);
        }
        // where rows of subnormals become zeros, nothing else happens
        check(dtype, &[1e-40; 32]);
    }
}

#[test]
fn layer_norm_and_the_nonlinearities_equal_the_oracle() {
    let mut rng = Rng(4);
    for n in [1, 2, 5, 32, 33, 768] {
        let (x, weight, bias) = (rng.nasty(n), rng.nasty(n), rng.nasty(n));
        let mut found = vec![0.0; n];
        layer_norm(&x, &weight, &bias, 1e-5, &mut found);
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
        for i in 0..n {
            let normal = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
            let expected = normal * f64::from(weight[i]) + f64::from(bias[i]);
            let bound = 1e-5 * (f64::from(weight[i].abs()) * (1.0 + normal.abs()) + f64::from(bias[i].abs()));
            assert!((f64::from(found[i]) - expected).abs() <= bound, "{n}: {i}: {expected}, found {}", found[i]);
        }
    }
    for i in -4000..4000 {
        let x = i as f32 * 0.01;
        let (wide, [exp, ..]) = (f64::from(x), F32x4::splat(x).exp().lanes());
        assert!((f64::from(exp) / wide.exp() - 1.0).abs() < 4e-7, "exp({x}) = {exp}");
        let tanh = |x: f64| x.tanh();
        for (activation, expected) in [
            (
                Activation::GeluNew,
                0.5 * wide * (1.0 + tanh(0.797_884_560_802_865_4 * (wide + 0.044715 * wide.powi(3)))),
            ),
            (Activation::Gelu, 0.5 * wide * (1.0 + libm::erf(wide * std::f64::consts::FRAC_1_SQRT_2))),
            (Activation::Relu, wide.max(0.0)),
            (Activation::Silu, wide / (1.0 + (-wide).exp())),
            (Activation::Tanh, tanh(wide)),
        ] {
            let [found, ..] = activate(activation, F32x4::splat(x)).lanes();
            let bound = 1e-6 * expected.abs() + 3e-7;
            assert!((f64::from(found) - expected).abs() <= bound, "{activation:?}({x}): {expected}, found {found}");
        }
    }
}

#[test]
fn attention_over_the_cache_equals_the_oracle() {
    let mut rng = Rng(5);
    for d in [1, 5, 16, 24, 64, 80, 128] {
        for is_quantised in [false, true] {
            let mut cache = Cache::new(&dims(d, 1, d), is_quantised);
            let n = 2 * PAGE + 3;
            cache.reserve(n);
            let ordinary = |rng: &mut Rng| -> Vec<f32> { (0..d).map(|_| rng.normal()).collect() };
            let (k, v): (Vec<_>, Vec<_>) = (0..n).map(|_| (ordinary(&mut rng), ordinary(&mut rng))).unzip();
            let head = &mut cache.heads_mut()[0];
            (0..n).for_each(|i| head.put(i, &k[i], &v[i]));
            let q = ordinary(&mut rng);
            let mut query = Query::new(d);
            query.set(&q, 0.25);
            for n_keys in [1, 2, PAGE - 1, PAGE, PAGE + 1, n] {
                let mut scores = vec![f32::NAN; n_keys];
                head.scores(&query, &mut scores);
                // i8 keys round to 1/254 of the largest
                let step = if is_quantised { 1.0 / 254.0 } else { 1e-6 };
                for (i, score) in scores.iter().enumerate() {
                    let expected: f32 = q.iter().zip(&k[i]).map(|(q, k)| 0.25 * q * k).sum();
                    let bound = 0.25 * step * largest(&k[i]) * q.iter().map(|q| q.abs()).sum::<f32>() * 1.01 + 1e-6;
                    assert!((score - expected).abs() <= bound, "D = {d}, key {i}: {expected}, found {score}");
                }
                let weights: Vec<f32> = (0..n_keys).map(|_| rng.normal().abs() / n_keys as f32).collect();
                let mut out = vec![[0.0; 4]; padded_dim(d) / 4];
                head.add_values(&weights, &mut out);
                for (i, found) in out.as_flattened()[..d].iter().enumerate() {
                    let expected: f32 = weights.iter().zip(&v).map(|(w, v)| w * v[i]).sum();
                    let bound: f32 =
                        weights.iter().zip(&v).map(|(w, v)| w * step * largest(v) * 1.05).sum::<f32>() + 1e-5;
                    assert!((found - expected).abs() <= bound, "D = {d}, {n_keys} keys: {expected}, found {found}");
                }
            }
        }
    }
}

#[test]
fn the_parts_of_a_layout_lie_one_after_the_other() {
    for dtype in Dtype::ALL {
        for dims in [dims(6, 2, 10), dims(768, 12, 3072), dims(33, 3, 7)] {
            let layout = Layout::new(&dims, dtype).expect("a layout");
            let mut parts = vec![layout.wpe.clone(), layout.ln_f.weight.clone(), layout.ln_f.bias.clone()];
            let b = &layout.blocks[0];
            for norm in [&b.ln_1, &b.ln_2] {
                parts.extend([norm.weight.clone(), norm.bias.clone()]);
            }
            let head = layout.lm_head.as_ref().expect("untied");
            for m in [&b.c_attn, &b.c_proj, &b.c_fc, &b.mlp_c_proj, &layout.wte, head] {
                parts.extend([m.quants.clone(), m.block_scales.clone(), m.row_scales.clone(), m.bias.clone()]);
            }
            parts.retain(|p| !p.is_empty());
            parts.sort_by_key(|p| p.start);
            assert!(parts.iter().all(|p| p.start % ALIGN == 0));
            assert!(parts.windows(2).all(|w| w[0].end <= w[1].start && w[1].start - w[0].end < ALIGN));
            assert!(parts.last().is_some_and(|p| p.end <= layout.n_bytes));
        }
    }
    let absurd = Dims { vocab_size: usize::MAX / 2, ..dims(1 << 20, 1, 1) };
    assert!(Layout::new(&absurd, Dtype::Fp32).is_none(), "beyond what can be counted");
}
