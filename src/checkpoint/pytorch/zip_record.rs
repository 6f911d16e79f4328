//! What stands in front of an entry of a zip archive, and behind it.

use crate::error::{Error, Result, excerpt};

/// What stands in front of an entry.
#[derive(Debug, PartialEq)]
pub(super) struct LocalHeader {
    pub name: String,
    /// The entry's size, where it is told here.
    pub n_bytes: Option<u64>,
    /// Whether it is told behind the entry.
    pub has_descriptor: bool,
    /// Whether the bytes are the content itself.
    pub is_stored: bool,
}

impl LocalHeader {
    /// Bytes before the name.
    pub const N_FIXED: usize = 30;

    /// All its bytes, if those before the name are there.
    pub fn n_bytes(bytes: &[u8]) -> Option<usize> {
        let fixed: &[u8; Self::N_FIXED] = bytes.first_chunk()?;
        Some(Self::N_FIXED + usize::from(u16_at(fixed, 26)) + usize::from(u16_at(fixed, 28)))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for an encrypted entry.
    pub fn new(bytes: &[u8], file: &str) -> Result<Self> {
        const UNKNOWN: u64 = u32::MAX as u64;
        let flags = u16_at(bytes, 6);
        let (name, extra) = bytes[Self::N_FIXED..].split_at(usize::from(u16_at(bytes, 26)));
        let name = String::from_utf8_lossy(name).into_owned();
        if flags & 1 != 0 {
            return Err(Error::file(file, "entries that are not encrypted", format!("`{}`", excerpt(&name))));
        }
        let has_descriptor = flags & 8 != 0;
        let n_bytes = match u64::from(u32_at(bytes, 18)) {
            UNKNOWN => zip64_size(extra),
            // the size is not known yet when this is written, and zero stands for that
            _ if has_descriptor => None,
            n_bytes => Some(n_bytes),
        };
        Ok(Self {
            name,
            n_bytes: n_bytes.filter(|_| !has_descriptor),
            has_descriptor,
            is_stored: u16_at(bytes, 8) == 0,
        })
    }
}

/// The stored size in the extra field of an entry of 4 GiB or more.
fn zip64_size(mut extra: &[u8]) -> Option<u64> {
    const ZIP64: u16 = 1;
    while extra.len() >= 4 {
        let (id, n) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra[4..].get(..n)?;
        if id == ZIP64 {
            return field.get(8..16).map(|size| u64_at(size, 0));
        }
        extra = &extra[4 + n..];
    }
    None
}

/// Whether bytes are what stands behind an entry.
#[derive(Debug, PartialEq)]
pub(super) enum Descriptor {
    /// They begin with it: so many bytes.
    Whole(usize),
    /// They may be; so many bytes tell.
    Incomplete(usize),
    None,
}

const SIGNATURE: [u8; 4] = *b"PK\x07\x08";
/// Signature, checksum, and the size twice, in 32 or 64 bits.
const N_SHORT: usize = 16;
const N_LONG: usize = 24;

/// Whether the bytes begin with what stands behind an entry of that size. The checksum is not looked at: PyTorch can be
/// told to write none.
pub(super) fn descriptor(bytes: &[u8], n_bytes: u64) -> Descriptor {
    let n = bytes.len().min(SIGNATURE.len());
    if bytes[..n] != SIGNATURE[..n] {
        return Descriptor::None;
    }
    if bytes.len() < N_SHORT {
        return Descriptor::Incomplete(N_SHORT);
    }
    // Of an empty entry both have zeros here. What is left of the long one is then told by its zeros.
    if u64::from(u32_at(bytes, 8)) == n_bytes && u64::from(u32_at(bytes, 12)) == n_bytes {
        return Descriptor::Whole(N_SHORT);
    }
    if u64_at(bytes, 8) != n_bytes {
        return Descriptor::None;
    }
    match bytes.get(N_SHORT..N_LONG) {
        None => Descriptor::Incomplete(N_LONG),
        Some(size) if u64_at(size, 0) == n_bytes => Descriptor::Whole(N_LONG),
        Some(_) => Descriptor::None,
    }
}

/// Where an entry of unknown size ends.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// Bytes that belong to the entry for certain.
    pub at: usize,
    /// Bytes of what stands behind it, if it is there.
    pub n_descriptor: Option<usize>,
}

/// Looks for the end of an entry of which `n_before` bytes have come before these.
pub(super) fn find_descriptor(bytes: &[u8], n_before: u64) -> Found {
    let mut at = 0;
    while let Some(n) = bytes[at..].iter().position(|&b| b == SIGNATURE[0]) {
        at += n;
        match descriptor(&bytes[at..], n_before + at as u64) {
            Descriptor::Whole(n) => return Found { at, n_descriptor: Some(n) },
            Descriptor::Incomplete(_) => return Found { at, n_descriptor: None },
            Descriptor::None => at += 1,
        }
    }
    Found { at: bytes.len(), n_descriptor: None }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_found_where_its_size_is_right() {
        let short = |n: u32| [&b"PK\x07\x08crc!"[..], &n.to_le_bytes(), &n.to_le_bytes()].concat();
        let long = |n: u64| [&b"PK\x07\x08crc!"[..], &n.to_le_bytes(), &n.to_le_bytes()].concat();
        assert_eq!(descriptor(&short(5), 5), Descriptor::Whole(16));
        assert_eq!(descriptor(&long(5), 5), Descriptor::Whole(24));
        assert_eq!(descriptor(&long(5 << 32), 5 << 32), Descriptor::Whole(24));
        assert_eq!(descriptor(&long(5)[..20], 5), Descriptor::Incomplete(24));
        assert_eq!(descriptor(&short(5), 6), Descriptor::None);
        // the entry holds something that looks like an end, but for another size
        let content = [&b"PPK"[..], &short(5)].concat();
        let bytes = [&content[..], &short(content.len() as u32), b"PK\x03\x04"].concat();
        let expected = Found { at: content.len(), n_descriptor: Some(16) };
        assert_eq!(find_descriptor(&bytes, 0), expected);
        for n in 0..bytes.len() - 4 {
            let found = find_descriptor(&bytes[..n], 0);
            assert!(found == expected || found.n_descriptor.is_none() && found.at <= content.len(), "{n}: {found:?}");
        }
    }

    #[test]
    fn sizes_beyond_4_gib_are_in_the_extra_field() {
        let mut header = [&b"PK\x03\x04"[..], &[0; 26], b"a/data.pkl"].concat();
        header[18..26].fill(0xff);
        header[26] = 10;
        header[28] = 24;
        let big = (5_u64 << 32).to_le_bytes();
        let header = [&header[..], b"FB\0\0", &[1, 0, 16, 0], &big, &big].concat();
        assert_eq!(LocalHeader::n_bytes(&header), Some(header.len()));
        let read = LocalHeader::new(&header, "f").unwrap();
        assert_eq!((read.name.as_str(), read.n_bytes, read.is_stored), ("a/data.pkl", Some(5 << 32), true));
    }
}
