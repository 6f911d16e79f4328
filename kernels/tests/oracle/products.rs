//! y = W x.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::format::unpack_row;
use gpt2_kernels::inputs::Inputs;
use gpt2_kernels::layout::{BLOCK, GROUP};
use gpt2_kernels::pack::{Packer, write_into};
use gpt2_kernels::product::{Weights, Widened, product};
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

#[test]
fn products_equal_the_oracle_on_the_unpacked_weights() {
    let mut rng = Rng(1);
    for dtype in Dtype::ALL {
        for (k, r) in [(1, 1), (3, 5), (31, 4), (32, 7), (33, 8), (64, 12), (100, 9), (768, 6), (3072, 5)] {
            let (layout, image, rows, bias) = packed(&mut rng, dtype, k, r);
            for n_tokens in [1, 2, 3, 5] {
                let x: Vec<Vec<f32>> = (0..n_tokens).map(|_| rng.nasty(k)).collect();
                let mut inputs = Inputs::new(n_tokens, k);
                for (t, x) in x.iter().enumerate() {
                    inputs.set(t, dtype, |into| into[..k].copy_from_slice(x));
                }
                let m = &layout.blocks[0].c_fc;
                let mut found = vec![f32::NAN; n_tokens * m.n_rows_padded()];
                let weights = Weights::new(m, &image);
                let n_groups = m.n_rows_padded() / GROUP;
                product(&weights, &inputs, &mut Widened::default(), 0..n_groups, |group, t, y| {
                    found[t * n_groups * GROUP + group * GROUP..][..GROUP].copy_from_slice(&y.lanes());
                });
                for (t, x) in x.iter().enumerate() {
                    for row in 0..r {
                        let w = &rows[row * k..][..k];
                        let terms = || w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let expected = terms().sum::<f64>() + f64::from(bias[row]);
                        // f32 sums round each term; integers round the inputs, to 1/5000 of the largest at worst
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
            let mut x = Inputs::new(n_tokens, k);
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
                let mut x = Inputs::new(1, 40);
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
