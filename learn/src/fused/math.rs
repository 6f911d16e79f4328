//! Products of matrices and functions of single numbers, as the fused steps need them.
//!
//! Matrices are row-major views of flat slices with a row stride, so that the heads inside a [T, 3 C] buffer and a
//! transpose cost no copy.

use gemm::Parallelism;
use pulp::Arch;

/// Runs a closure compiled for the widest vectors that this processor has.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// A matrix that is read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    values: &'a [f32],
    n_rows: usize,
    n_cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// [rows, cols], one row after the other.
    pub fn new(values: &'a [f32], n_rows: usize, n_cols: usize) -> Self {
        Self::strided(values, n_rows, n_cols, n_cols)
    }

    /// [rows, cols], where a row begins `row_stride` values after the one before it.
    pub fn strided(values: &'a [f32], n_rows: usize, n_cols: usize, row_stride: usize) -> Self {
        assert!(n_cols <= row_stride && fits(values.len(), n_rows, n_cols, row_stride));
        Self { values, n_rows, n_cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            n_rows: self.n_cols,
            n_cols: self.n_rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix that is written.
#[derive(Debug)]
pub struct ViewMut<'a> {
    values: &'a mut [f32],
    n_rows: usize,
    n_cols: usize,
    row_stride: usize,
}

impl<'a> ViewMut<'a> {
    /// [rows, cols], one row after the other.
    pub fn new(values: &'a mut [f32], n_rows: usize, n_cols: usize) -> Self {
        Self::strided(values, n_rows, n_cols, n_cols)
    }

    /// [rows, cols], where a row begins `row_stride` values after the one before it.
    pub fn strided(values: &'a mut [f32], n_rows: usize, n_cols: usize, row_stride: usize) -> Self {
        assert!(n_cols <= row_stride && fits(values.len(), n_rows, n_cols, row_stride));
        Self { values, n_rows, n_cols, row_stride }
    }
}

fn fits(n_values: usize, n_rows: usize, n_cols: usize, row_stride: usize) -> bool {
    n_rows == 0 || (n_rows - 1) * row_stride + n_cols <= n_values
}

/// Whether a product replaces what stands in its destination or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `out = scale · a · b`
    Replace,
    /// `out += scale · a · b`
    Add,
}

/// `out = scale · a · b`, or added to it. a: [M, K], b: [K, N], out: [M, N]. One thread, in an order that depends on
/// the shapes alone.
pub fn product(out: ViewMut, write: Write, scale: f32, a: View, b: View) {
    assert_eq!((out.n_rows, out.n_cols, a.n_cols), (a.n_rows, b.n_cols, b.n_rows), "shapes of a product");
    if out.n_rows == 0 || out.n_cols == 0 {
        return;
    }
    let stride = |n: usize| n as isize;
    // SAFETY: the constructors checked that rows · stride + cols values lie in each slice, `out` is borrowed
    // exclusively, and the shapes agree.
    unsafe {
        gemm::gemm(
            out.n_rows,
            out.n_cols,
            a.n_cols,
            out.values.as_mut_ptr(),
            1,
            stride(out.row_stride),
            write == Write::Add,
            a.values.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// eˣ for x ≤ 88, to about one unit in the last place, without a branch, so that it vectorises. 0 below -87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| ≤ ln 2 / 2; adding 1.5 · 2²³ rounds to the nearest whole number
    const ROUND: f32 = 12_582_912.0;
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, so that n times the first is exact
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    // Cephes' polynomial for eʳ
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    let scale = f32::from_bits((((n as i32) + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { e * scale }
}

/// The hyperbolic tangent, to a few units in the last place of 1.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs().min(20.0));
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// Σ aᵢ bᵢ, in the order of [`sum_of`].
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    sum_of(a.len(), |i| a[i] * b[i])
}

/// Σ f(i) for i below n, in sixteen lanes, in an order that depends on n alone.
#[inline(always)]
pub fn sum_of(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let n_whole = n / LANES * LANES;
    for i in (0..n_whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
    }
    for i in n_whole..n {
        lanes[i - n_whole] += f(i);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// y += x
#[inline(always)]
pub fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_functions_are_the_slow_ones() {
        for i in -90_000..90_000 {
            let x = i as f32 * 1e-3;
            if x <= 88.0 {
                let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
                let tolerance = if x < -87.0 { 2e-38 } else { 2e-7 * expected };
                assert!((found - expected).abs() <= tolerance, "exp({x}): {found} for {expected}");
            }
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 2e-7, "tanh({x})");
        }
        assert_eq!((exp(f32::NEG_INFINITY), exp(0.0), tanh(0.0)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn products_take_transposes_and_strides() {
        let a: Vec<f32> = (0..21).map(|i| (i * i % 7) as f32 - 3.0).collect(); // [3, 7]
        let b: Vec<f32> = (0..30).map(|i| (i * 5 % 11) as f32 - 5.0).collect(); // [5, 6], of which [5, 4] is used
        let (m, n, k) = (3, 5, 4);
        let mut out = vec![1.0; m * 9];
        let (view_a, view_b) = (View::strided(&a, m, k, 7), View::strided(&b, n, k, 6).t());
        product(ViewMut::strided(&mut out, m, n, 9), Write::Add, 0.5, view_a, view_b);
        for (i, row) in out.chunks(9).enumerate() {
            for (j, &found) in row.iter().enumerate() {
                let sum: f32 = (0..k).map(|l| a[i * 7 + l] * b[j.min(n - 1) * 6 + l]).sum();
                assert_eq!(found, if j < n { 1.0 + 0.5 * sum } else { 1.0 });
            }
        }
    }

    #[test]
    fn sums_of_any_length() {
        let values: Vec<f32> = (1..200).map(|i| i as f32).collect();
        for n in 0..values.len() {
            assert_eq!(sum_of(n, |i| values[i]), (n * (n + 1) / 2) as f32);
        }
    }
}
