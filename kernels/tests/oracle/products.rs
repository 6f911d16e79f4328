//! y = W x.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::format::unpack_row;
use gpt2_kernels::inputs::Inputs;
use gpt2_kernels::layout::{BLOCK, GROUP, Matrix};
use gpt2_kernels::pack::{Packer, write_into};
use gpt2_kernels::product::{SEGMENT, Weights, Widened, offsets, product};
use gpt2_kernels::{Dtype, Layout};

use crate::input::{Rng, dims, largest};

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

/// W x + bias for these vectors, [T, R'], multiplied as bytes or not.
fn products(m: &Matrix, image: &[u8], x: &[Vec<f32>], byte_dots: bool) -> Vec<Vec<f32>> {
    let offsets = offsets(m, image);
    let weights = Weights::new(m, image);
    let weights = if byte_dots && m.dtype == Dtype::Q8 { weights.with_offsets(&offsets) } else { weights };
    let mut inputs = Inputs::new(x.len(), m.n_cols);
    for (t, x) in x.iter().enumerate() {
        inputs.set(t, weights.form(), |into| into[..m.n_cols].copy_from_slice(x));
    }
    let mut found = vec![vec![f32::NAN; m.n_rows_padded()]; x.len()];
    product(&weights, &inputs, &mut Widened::default(), 0..m.n_rows_padded() / GROUP, |group, t, y| {
        found[t][group * GROUP..][..GROUP].copy_from_slice(&y.lanes());
    });
    found
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn products_equal_the_oracle_on_the_unpacked_weights() {
    let mut rng = Rng(1);
    for dtype in Dtype::ALL {
        for (k, r) in [(1, 1), (3, 5), (31, 4), (32, 7), (33, 8), (64, 12), (100, 9), (768, 6), (3072, 5)] {
            let (layout, image, rows, bias) = packed(&mut rng, dtype, k, r);
            let m = &layout.blocks[0].c_fc;
            for n_tokens in [1, 2, 3, 5] {
                let x: Vec<Vec<f32>> = (0..n_tokens).map(|_| rng.nasty(k)).collect();
                let found = products(m, &image, &x, false);
                for (t, x) in x.iter().enumerate() {
                    let name = format!("{} [{r}, {k}], token {t} of {n_tokens}", dtype.name());
                    for row in 0..r {
                        let w = &rows[row * k..][..k];
                        let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let expected = terms().sum::<f64>() + f64::from(bias[row]);
                        // f32 sums round each term; integers round the inputs to so many steps of the largest
                        let size: f64 = terms().map(f64::abs).sum::<f64>() + f64::from(bias[row].abs());
                        let rounding: f64 = match dtype {
                            Dtype::Fp32 | Dtype::Fp16 => 0.0,
                            Dtype::Q8 => {
                                w.iter().map(|w| f64::from(w.abs())).sum::<f64>() * f64::from(largest(x)) / 16300.0
                            }
                            Dtype::Q4 => {
                                let blocks = w.chunks(BLOCK).zip(x.chunks(BLOCK));
                                blocks
                                    .map(|(w, x)| f64::from(w.iter().map(|w| w.abs()).sum::<f32>() * largest(x)))
                                    .sum::<f64>()
                                    / 253.0
                            }
                        };
                        let bound = 2e-6 * size + rounding + 1e-30;
                        let found = f64::from(found[t][row]);
                        assert!((found - expected).abs() <= bound, "{name}, row {row}: {expected}, found {found}");
                    }
                    let alone = products(m, &image, std::slice::from_ref(x), false);
                    assert_eq!(bits(&alone[0]), bits(&found[t]), "{name}: alone");
                    let as_bytes = products(m, &image, std::slice::from_ref(x), true);
                    assert_eq!(bits(&as_bytes[0]), bits(&found[t]), "{name}: as bytes");
                }
            }
        }
    }
}

/// A `mlp.c_proj` of four rows whose weights are whole numbers of this format, and the weights.
fn whole(rng: &mut Rng, dtype: Dtype, k: usize, weight: impl Fn(&mut Rng) -> f32) -> (Layout, Vec<u8>, Vec<f32>) {
    let layout = Layout::new(&dims(4, 1, k), dtype).expect("a layout");
    let mut image = vec![0; layout.n_bytes];
    let mut columns: Vec<f32> = (0..k * 4).map(|_| weight(rng)).collect();
    // the largest of each row, or of each block of it, makes the steps whole
    let (step, most) = if dtype == Dtype::Q8 { (k, 127.0) } else { (BLOCK, -8.0) };
    for first in (0..k).step_by(step) {
        columns[4 * first..][..4].fill(most);
    }
    let mut packer = Packer::new(layout.clone());
    assert!(packer.begin("h.0.mlp.c_proj.weight").expect("room"));
    packer.values(&columns, &mut write_into(&mut image));
    packer.end(&mut write_into(&mut image));
    (layout, image, columns)
}

#[test]
fn integer_sums_are_exact() {
    let mut rng = Rng(3);
    for k in [32, 768, 2048, 2080, 3072, 6400] {
        // any numbers, and those of the largest sums
        for extreme in [false, true] {
            let number = move |rng: &mut Rng, most: usize| match extreme {
                true => most as f32,
                false => rng.below(2 * most + 1) as f32 - most as f32,
            };
            let (layout, image, columns) = whole(&mut rng, Dtype::Q8, k, |rng| number(rng, 127));
            let mut x: Vec<f32> = (0..k).map(|_| number(&mut rng, 8191)).collect();
            x[k / 2] = -8191.0;
            for byte_dots in [false, true] {
                let found =
                    products(&layout.blocks[0].mlp_c_proj, &image, &[x.clone(), x.clone(), x.clone()], byte_dots);
                for row in 0..4 {
                    let term = |i: usize| columns[4 * i + row] as i64 * x[i] as i64;
                    let sum = |first: usize| (first..k.min(first + SEGMENT)).map(term).sum::<i64>() as f32;
                    let expected = (0..k).step_by(SEGMENT).map(sum).fold(0.0, |y: f32, sum| y + sum);
                    let found: Vec<f32> = found.iter().map(|y| y[row]).collect();
                    assert_eq!(bits(&found), bits(&[expected; 3]), "q8, K = {k}, row {row}, as bytes: {byte_dots}");
                }
            }
            let (layout, image, columns) = whole(&mut rng, Dtype::Q4, k, |rng| number(rng, 7));
            let mut x: Vec<f32> = (0..k).map(|_| number(&mut rng, 127)).collect();
            x.iter_mut().step_by(BLOCK).for_each(|x| *x = 127.0);
            let found = products(&layout.blocks[0].mlp_c_proj, &image, &[x.clone(), x.clone(), x.clone()], false);
            for row in 0..4 {
                // all of it is below 2²⁴, so that an f32 holds every sum
                let expected: i64 = (0..k).map(|i| columns[4 * i + row] as i64 * x[i] as i64).sum();
                assert!(found.iter().all(|y| y[row] == expected as f32), "q4, K = {k}, row {row}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let mut rng = Rng(2);
    for dtype in Dtype::ALL {
        let (layout, image, ..) = packed(&mut rng, dtype, 40, 4);
        for byte_dots in [false, true] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 17, 39] {
                    let mut x = vec![1.0; 40];
                    x[at] = bad;
                    let found = products(&layout.blocks[0].c_fc, &image, &[x], byte_dots);
                    assert!(found[0].iter().any(|y| !y.is_finite()), "{} {bad} at {at}", dtype.name());
                }
            }
        }
    }
}
