//! SentencePiece's table of replacements (`precompiled_charsmap`), checked before the `tokenizers` crate follows it:
//! the crate indexes with whatever stands in the table.
//!
//! The format (sentencepiece, `normalizer.cc` and darts.h): the size of a trie in bytes, the trie as an array of 32-bit
//! units, then texts that end in NUL each. A unit says whether a key ends here, which byte leads to it, and where those
//! after it are; the unit of an end is the place of the replacement among the texts.

use serde_json::Value;

use crate::error::{Error, Result};

/// Checks that every place that a table leads to is in it. → nothing, if so
///
/// # Errors
/// [`Error::Checkpoint`]
pub(super) fn check(base64: &Value) -> Result<()> {
    let is_sound = || {
        let bytes = decode_base64(base64.as_str()?)?;
        let (n_bytes, rest) = bytes.split_first_chunk::<4>()?;
        let n_bytes = u32::from_le_bytes(*n_bytes) as usize / 4 * 4;
        let (trie, texts) = rest.split_at_checked(n_bytes)?;
        let units: Vec<u32> =
            trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
        let texts = std::str::from_utf8(texts).ok()?;
        is_inside(&units, texts).then_some(())
    };
    is_sound().ok_or_else(|| {
        Error::file("tokenizer.json", "a sound `precompiled_charsmap`", "one whose trie leads outside of it")
    })
}

/// Follows all keys of the trie.
fn is_inside(units: &[u32], texts: &str) -> bool {
    let offset = |unit: u32| ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6);
    let Some(&root) = units.first() else { return false };
    let mut is_seen = vec![false; units.len()];
    let mut bases = vec![offset(root)];
    while let Some(base) = bases.pop() {
        // any byte of a text may be tried here
        if base | 0xff >= units.len() {
            return false;
        }
        for byte in 1..=255 {
            let at = base ^ byte;
            let unit = units[at];
            if unit & (1 << 31 | 0xff) != byte as u32 || std::mem::replace(&mut is_seen[at], true) {
                continue;
            }
            let next = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let Some(&end) = units.get(next) else { return false };
                if !texts.is_char_boundary((end & !(1 << 31)) as usize) {
                    return false;
                }
            }
            bases.push(next);
        }
    }
    true
}

/// Standard base64 with its padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0u32, 0);
    for c in body.bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    // the crate's reader, which panics at an error, refuses bits that are left over
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (text, bytes) in [("", &b""[..]), ("TWE=", b"Ma"), ("TWFu", b"Man"), ("TQ==", b"M"), ("/+8=", b"\xff\xef")]
        {
            assert_eq!(decode_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["TQ", "T===", "TR==", "T Q=", "=TQ="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    #[test]
    fn a_trie_that_leads_outside_is_refused() {
        let mut units = vec![0u32; 512];
        units[0] = 1 << 9 | 1 << 10; // the first level is at 256
        assert!(is_inside(&units, ""));
        units[256 ^ 97] = 97 | 1 << 8; // "a" ends here, with its value in the same place
        assert!(!is_inside(&units, "b\0"), "the value is its label and flags, far beyond the texts");
        units[256 ^ 97] = 97 | 1000 << 10;
        assert!(!is_inside(&units, "b\0"), "its children would be beyond the end");
        assert!(!is_inside(&[], ""));
    }
}
