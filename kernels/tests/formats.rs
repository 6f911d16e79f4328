//! Packing then unpacking a row gives it back within the error that its format states, whatever the numbers are.
#![cfg(not(target_arch = "wasm32"))]

use gpt2_kernels::Dtype;
use gpt2_kernels::format::{pack_row, unpack_row};
use gpt2_kernels::layout::{BLOCK, GROUP};
use proptest::prelude::*;

/// A row there and back.
fn round_trip(dtype: Dtype, values: &[f32], row: usize) -> Vec<f32> {
    let width = values.len().next_multiple_of(BLOCK);
    let mut quants = vec![[0; 16]; width / dtype.chunk_values() * GROUP];
    let mut block_scales = vec![[0; GROUP]; width / BLOCK];
    let scale = pack_row(dtype, values, row, &mut quants, &mut block_scales);
    let mut found = vec![f32::NAN; values.len()];
    unpack_row(dtype, &quants, &block_scales, scale, row, &mut found);
    found
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// Numbers of one size, of all sizes together, zeros among them.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let size = prop_oneof![4 => -2..3_i32, 1 => -30..30_i32];
    let number = prop_oneof![8 => -1.0..1.0_f32, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(-1.0)];
    let same = (size.clone(), prop::collection::vec(number.clone(), 1..200))
        .prop_map(|(size, row)| row.into_iter().map(|x| x * 10_f32.powi(size)).collect());
    let mixed = prop::collection::vec((size, number).prop_map(|(size, x)| x * 10_f32.powi(size)), 1..200);
    prop_oneof![same, mixed]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_row_comes_back_within_the_error_of_its_format(values in row(), place in 0..GROUP) {
        let m = largest(&values);
        prop_assert_eq!(&round_trip(Dtype::Fp32, &values, place), &values);
        for (x, y) in values.iter().zip(round_trip(Dtype::Fp16, &values, place)) {
            prop_assert!((x - y).abs() <= x.abs() / 2048.0 + m * 2_f32.powi(-28), "fp16: {x} became {y}, m = {m}");
        }
        for (x, y) in values.iter().zip(round_trip(Dtype::Q8, &values, place)) {
            prop_assert!((x - y).abs() <= m / 254.0 * 1.0001, "q8: {x} became {y}, m = {m}");
        }
        let found = round_trip(Dtype::Q4, &values, place);
        for (x, y) in values.chunks(BLOCK).zip(found.chunks(BLOCK)) {
            // one of the scales that are tried makes the largest value ±7, and then a step is m₃₂ / 7
            let squares: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            let bound = f64::from(largest(x)) / 14.0 * 1.001 + f64::from(m) * 2_f64.powi(-24);
            prop_assert!((squares / x.len() as f64).sqrt() <= bound, "q4: {x:?} became {y:?}, m = {m}");
        }
    }

    /// Weights are finite; a hostile checkpoint's need not be. Nothing panics, and what is finite beside them stays so.
    #[test]
    fn any_bits_can_be_packed(bits in prop::collection::vec(any::<u32>(), 1..100), place in 0..GROUP) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for dtype in [Dtype::Fp16, Dtype::Q8, Dtype::Q4] {
            let found = round_trip(dtype, &values, place);
            prop_assert!(found.iter().all(|y| !y.is_nan()), "{}: {found:?}", dtype.name());
        }
    }
}
