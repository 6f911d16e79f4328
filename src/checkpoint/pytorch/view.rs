//! Storages, and the tensors that are views of them.

use super::globals::TorchDtype;

/// Numbers that tensors are views of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Its name in the file.
    pub key: String,
    pub n_bytes: u64,
    /// What its numbers are, unless they are only bytes.
    pub dtype: Option<TorchDtype>,
}

/// A view of a storage, which it lies within.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: usize,
    pub dtype: TorchDtype,
    /// Where its first number is, counted in numbers.
    pub offset: u64,
    pub shape: Vec<usize>,
    /// How far apart neighbours are along each dimension, counted in numbers.
    pub strides: Vec<usize>,
}

impl Tensor {
    /// How many numbers it has; `None` where they cannot be counted.
    pub fn n_values(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d as u64))
    }

    /// Whether its numbers follow each other in the storage, row-major.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        self.shape.iter().zip(&self.strides).rev().all(|(&d, &stride)| {
            let follows = d == 1 || stride as u64 == expected;
            expected = expected.saturating_mul(d as u64);
            follows
        })
    }

    /// Whether its numbers are all among a storage's bytes, and can be counted.
    pub fn lies_within(&self, n_bytes: u64) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let last =
            self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (&d, &stride)| {
                (d as u64 - 1).checked_mul(stride as u64)?.checked_add(last)
            });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(self.dtype.n_bytes));
        self.n_values().is_some() && end.is_some_and(|end| end <= n_bytes)
    }
}
