//! Formats and layout of the packed weights.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::format::{pack_row, unpack_row};
use gpt2_kernels::layout::{ALIGN, BLOCK, GROUP};
use gpt2_kernels::{Dims, Dtype, Layout};

use crate::input::{Rng, dims, largest};

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
                        // no value is off by more than the largest step among the scales that are tried
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
        // a row of subnormals may become zeros, but no more than that
        check(dtype, &[1e-40; 32]);
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
