//! Muon (Jordan et al. 2024): momentum whose singular values are all brought near one, for the matrices in the blocks.
//!
//! Scaled as in Liu et al. 2025 (§2.2), so that an update has the size of an AdamW update and shares rate and decay.

use std::ops::Range;

use super::adamw::Update;
use crate::fused::{View, ViewMut, Write, product, vectorised};
use crate::layout::{Layout, Slot};

/// Its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Of the gradients.
    pub momentum: f32,
    /// λ
    pub weight_decay: f32,
}

impl Default for Muon {
    fn default() -> Self {
        Self { momentum: 0.95, weight_decay: 0.1 }
    }
}

/// A part of a matrix's columns that is orthogonalised by itself: query, key and value are three.
#[derive(Clone, Debug)]
struct Panel {
    at: Range<usize>,
    n_rows: usize,
    /// Of the whole matrix.
    row_len: usize,
    first_col: usize,
    n_cols: usize,
}

impl Panel {
    fn of(slot: &Slot) -> impl Iterator<Item = Panel> {
        let (n_rows, row_len) = (slot.shape[0], slot.shape[1]);
        let n_parts = if slot.name.ends_with("attn.c_attn.weight") { 3 } else { 1 };
        let (at, n_cols) = (slot.range.clone(), row_len / n_parts);
        (0..n_parts).map(move |i| Panel { at: at.clone(), n_rows, row_len, first_col: i * n_cols, n_cols })
    }

    fn row(&self, i: usize) -> Range<usize> {
        let begin = self.at.start + i * self.row_len + self.first_col;
        begin..begin + self.n_cols
    }
}

impl Muon {
    /// Updates every matrix in the blocks.
    pub fn update(
        &self,
        layout: &Layout,
        params: &mut [f32],
        grads: &[f32],
        momentum: &mut [f32],
        update: Update,
        n_threads: usize,
    ) {
        let panels: Vec<Panel> =
            layout.slots.iter().filter(|slot| slot.is_block_matrix()).flat_map(Panel::of).collect();
        vectorised(
            #[inline(always)]
            || {
                for slot in layout.slots.iter().filter(|slot| slot.is_block_matrix()) {
                    let range = slot.range.clone();
                    for (m, g) in momentum[range.clone()].iter_mut().zip(&grads[range]) {
                        *m = self.momentum * *m + g * update.factor;
                    }
                }
            },
        );
        let momentum = &*momentum;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(panel) = panels.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                done.push((panel, self.direction(panel, grads, momentum, update.factor)));
            }
            done
        };
        let work = &work;
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..n_threads.max(1)).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for thread in threads {
                done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        for (panel, direction) in done {
            let rate = update.rate * 0.2 * (panel.n_rows.max(panel.n_cols) as f32).sqrt();
            let kept = 1.0 - update.rate * self.weight_decay;
            for (i, direction) in direction.chunks_exact(panel.n_cols).enumerate() {
                for (p, d) in params[panel.row(i)].iter_mut().zip(direction) {
                    *p = *p * kept - rate * d;
                }
            }
        }
    }

    /// Nesterov's look-ahead of the momentum, orthogonalised.
    fn direction(&self, panel: &Panel, grads: &[f32], momentum: &[f32], factor: f32) -> Vec<f32> {
        let mut x = Vec::with_capacity(panel.n_rows * panel.n_cols);
        for i in 0..panel.n_rows {
            let row = panel.row(i);
            x.extend(grads[row.clone()].iter().zip(&momentum[row]).map(|(g, m)| g * factor + self.momentum * m));
        }
        orthogonalise(&mut x, panel.n_rows, panel.n_cols);
        x
    }
}

/// Brings all singular values of x: [rows, cols] to about one, by five Newton-Schulz steps on the smaller side.
fn orthogonalise(x: &mut Vec<f32>, n_rows: usize, n_cols: usize) {
    const STEPS: [f32; 3] = [3.4445, -4.7750, 2.0315];
    let norm = super::norm(x) as f32 + 1e-7;
    x.iter_mut().for_each(|x| *x /= norm);
    let is_tall = n_rows > n_cols;
    let n = n_rows.min(n_cols);
    let (mut gram, mut poly) = (vec![0.0; n * n], vec![0.0; n * n]);
    let mut next = vec![0.0; x.len()];
    for _ in 0..5 {
        let view = View::new(x, n_rows, n_cols);
        let (a, b) = if is_tall { (view.t(), view) } else { (view, view.t()) };
        product(ViewMut::new(&mut gram, n, n), Write::Replace, 1.0, a, b);
        // poly = b · gram + c · gram²
        poly.iter_mut().zip(&gram).for_each(|(p, g)| *p = STEPS[1] * g);
        product(ViewMut::new(&mut poly, n, n), Write::Add, STEPS[2], View::new(&gram, n, n), View::new(&gram, n, n));
        next.iter_mut().zip(&*x).for_each(|(next, x)| *next = STEPS[0] * x);
        let poly = View::new(&poly, n, n);
        let (a, b) = if is_tall { (view, poly) } else { (poly, view) };
        product(ViewMut::new(&mut next, n_rows, n_cols), Write::Add, 1.0, a, b);
        std::mem::swap(x, &mut next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        for (n_rows, n_cols) in [(6, 9), (9, 6), (5, 5)] {
            let mut x: Vec<f32> = (0..n_rows * n_cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.3).collect();
            orthogonalise(&mut x, n_rows, n_cols);
            // the smaller side's Gram matrix has the squared singular values as eigenvalues, whose sum is its trace
            let trace: f32 = x.iter().map(|x| x * x).sum();
            let n = n_rows.min(n_cols) as f32;
            assert!((0.5 * n..1.5 * n).contains(&trace), "{trace} for {n}");
            let largest =
                (0..n_cols).map(|j| (0..n_rows).map(|i| x[i * n_cols + j].powi(2)).sum::<f32>()).fold(0.0, f32::max);
            assert!(largest < 1.5);
        }
    }
}
