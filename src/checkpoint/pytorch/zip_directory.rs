//! The end of a zip archive, which tells that none of it was cut off.

/// Signature, six counts and offsets, and the length of the comment behind them.
const N_FIXED: usize = 22;
const SIGNATURE: &[u8] = b"PK\x05\x06";
/// The record and the longest comment.
const N_LONGEST: usize = N_FIXED + u16::MAX as usize;

/// The last bytes of an archive's own list of its entries.
#[derive(Debug, Default)]
pub(super) struct DirectoryTail(Vec<u8>);

impl DirectoryTail {
    /// The next bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(N_LONGEST)..]);
        if self.0.len() > 2 * N_LONGEST {
            self.0.drain(..self.0.len() - N_LONGEST);
        }
    }

    /// Whether the file may end here: the record that ends every archive is there, with the whole of its comment.
    pub fn is_whole(&self) -> bool {
        let begin = self.0.len().saturating_sub(N_LONGEST);
        self.0[begin..].windows(N_FIXED).rev().enumerate().any(|(n_behind, record)| {
            record.starts_with(SIGNATURE) && usize::from(u16::from_le_bytes([record[20], record[21]])) == n_behind
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_ends_with_its_record_and_the_whole_comment() {
        for comment in [&b""[..], b"saved by hand", &[b'P'; 65535]] {
            let n = (comment.len() as u16).to_le_bytes();
            let bytes = [&b"PK\x01\x02 entries"[..], SIGNATURE, &[0; 16], &n, comment].concat();
            for piece in [1, 7, bytes.len()] {
                let mut tail = DirectoryTail::default();
                bytes.chunks(piece).for_each(|bytes| tail.write(bytes));
                assert!(tail.is_whole(), "{} bytes of comment, by {piece}", comment.len());
            }
            for n_missing in [1, 12, N_FIXED] {
                let mut tail = DirectoryTail::default();
                tail.write(&bytes[..bytes.len() - n_missing]);
                assert!(!tail.is_whole(), "{} bytes of comment, {n_missing} missing", comment.len());
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_a_record_can_take() {
        let mut tail = DirectoryTail::default();
        (0..50).for_each(|_| tail.write(&[0; 100_000]));
        assert!(tail.0.len() <= 2 * N_LONGEST && !tail.is_whole());
    }
}
