//! The number formats of checkpoints, and the way from each to f32.

use half::{bf16, f16};

/// A number format that GPT-2 checkpoints come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// 32-bit float
    F32,
    /// IEEE 16-bit float
    F16,
    /// bfloat16: the upper half of an f32
    Bf16,
}

impl StoredDtype {
    /// The format of that name in a safetensors header, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes that one number takes.
    pub fn n_bytes(self) -> usize {
        match self {
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
}
