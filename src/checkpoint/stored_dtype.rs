//! The number formats of checkpoints, and the way from each to f32.

use half::{bf16, f16};

use super::tensor_file::fill;

/// A number format that GPT-2 checkpoints come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// 32-bit float
    F32,
    /// IEEE 16-bit float
    F16,
    /// bfloat16: the upper half of an f32
    Bf16,
    /// 64-bit float, which is rounded to the nearest f32
    F64,
}

impl StoredDtype {
    /// Their names, for an error.
    pub(super) const NAMES: &str = "F32, F16, BF16 or F64";

    /// The format of that name in a safetensors header, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            "F64" => Some(Self::F64),
            _ => None,
        }
    }

    /// Bytes that one number takes.
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Appends little-endian numbers of this format as f32. A last, incomplete number is dropped.
    pub fn extend_f32(self, values: &mut Vec<f32>, bytes: &[u8]) {
        match self {
            Self::F32 => values.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Self::F16 => values.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32())),
            Self::Bf16 => values.extend(bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32())),
            Self::F64 => values.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
        }
    }
}

/// Turns bytes that arrive in pieces of any size into numbers.
#[derive(Debug)]
pub(super) struct Numbers {
    dtype: StoredDtype,
    /// Whether the highest byte of a number comes first.
    is_big_endian: bool,
    /// The first bytes of a number whose last ones have not come yet.
    part: Vec<u8>,
}

impl Numbers {
    pub fn new(dtype: StoredDtype, is_big_endian: bool) -> Self {
        Self { dtype, is_big_endian, part: Vec::new() }
    }

    /// The numbers that are whole with these bytes.
    pub fn of(&mut self, mut bytes: &[u8]) -> Vec<f32> {
        let n = self.dtype.n_bytes();
        let mut values = Vec::with_capacity(bytes.len() / n + 1);
        if !self.part.is_empty() {
            let n_taken = fill(&mut self.part, bytes, n);
            bytes = &bytes[n_taken..];
            if self.part.len() == n {
                let part = std::mem::take(&mut self.part);
                self.extend(&mut values, &part);
            }
        }
        let (whole, part) = bytes.split_at(bytes.len() - bytes.len() % n);
        self.extend(&mut values, whole);
        self.part.extend_from_slice(part);
        values
    }

    fn extend(&self, values: &mut Vec<f32>, bytes: &[u8]) {
        if self.is_big_endian {
            let mut bytes = bytes.to_vec();
            bytes.chunks_exact_mut(self.dtype.n_bytes()).for_each(<[u8]>::reverse);
            self.dtype.extend_f32(values, &bytes);
        } else {
            self.dtype.extend_f32(values, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_f32(dtype: StoredDtype, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        dtype.extend_f32(&mut values, bytes);
        values
    }

    #[test]
    fn known_bit_patterns() {
        assert_eq!(to_f32(StoredDtype::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]), [1.0, -2.0]);
        // 1, -2, the smallest subnormal, the largest finite
        assert_eq!(
            to_f32(StoredDtype::F16, &[0, 0x3c, 0, 0xc0, 1, 0, 0xff, 0x7b]),
            [1.0, -2.0, 2f32.powi(-24), 65504.0]
        );
        assert_eq!(to_f32(StoredDtype::Bf16, &[0x80, 0x3f, 0, 0xc0, 1, 0]), [1.0, -2.0, f32::from_bits(0x10000)]);
        assert!(to_f32(StoredDtype::F16, &[0, 0x7e])[0].is_nan());
        assert_eq!(StoredDtype::from_name("I8"), None);
    }

    #[test]
    fn pieces_of_any_size_give_the_same_numbers() {
        let numbers = [1.0, -2.5, 1e-3_f64, f64::MAX, 1e9];
        let expected: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
        let little: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let big: Vec<u8> = numbers.iter().flat_map(|x| x.to_be_bytes()).collect();
        for (bytes, is_big_endian) in [(little, false), (big, true)] {
            for piece in 1..=bytes.len() {
                let mut reader = Numbers::new(StoredDtype::F64, is_big_endian);
                let found: Vec<f32> = bytes.chunks(piece).flat_map(|piece| reader.of(piece)).collect();
                assert_eq!(found, expected, "pieces of {piece}");
            }
        }
    }
}
