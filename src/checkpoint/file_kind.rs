//! What a file really is, told by its first bytes: names promise much.

/// The number in the first pickle of a PyTorch file before 1.6, as the pickle holds it.
const LEGACY_MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// So many first bytes tell every kind.
pub(super) const ENOUGH_BYTES: usize = 512;

/// The kinds of files that lie where a model's weights or a JSON file should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A safetensors file, or what its name says is one.
    Safetensors,
    /// A zip archive, as `torch.save` writes one since PyTorch 1.6.
    TorchZip,
    /// Pickles and raw bytes, one after the other, as `torch.save` wrote them before.
    TorchLegacy,
    TorchTar,
    OtherPickle,
    LfsPointer,
    WebPage,
    Json,
    Text,
    Hdf5,
    Msgpack,
    Gguf,
    Onnx,
    Compressed,
    Empty,
    Unknown,
}

impl FileKind {
    /// What it is, and what would help whoever has it.
    pub fn description(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "a zip archive",
            Self::TorchLegacy => "a PyTorch file of the format before 1.6",
            Self::TorchTar => "a tar archive, as PyTorch wrote before 0.1.10 (load it with PyTorch and save it again)",
            Self::OtherPickle => "a Python pickle that torch.save did not write",
            Self::LfsPointer => "a Git LFS pointer, which only stands for the file (`git lfs pull` fetches it)",
            Self::WebPage => "a web page (the address leads to a page about the file or to an error, not to the file)",
            Self::Json => "JSON (an index or a server's message, not weights)",
            Self::Text => "text (perhaps a server's message)",
            Self::Hdf5 => {
                "HDF5, as TensorFlow saves (from_pretrained(..., from_tf=True) and save_pretrained convert it)"
            }
            Self::Msgpack => {
                "msgpack, as Flax saves (from_pretrained(..., from_flax=True) and save_pretrained convert it)"
            }
            Self::Gguf => "a GGUF or GGML file of llama.cpp, which is another format (take the original checkpoint)",
            Self::Onnx => "an ONNX graph, which is another format (take the original checkpoint)",
            Self::Compressed => "a compressed file (unpack it)",
            Self::Empty => "an empty file",
            Self::Unknown => "bytes of no known format (is the file damaged, or encrypted?)",
        }
    }
}

/// The kind of the file that begins with these bytes; `None` where more of them are needed, which is never so where
/// `is_all` says that these are all or where there are [`ENOUGH_BYTES`].
pub(super) fn of(bytes: &[u8], is_all: bool) -> Option<FileKind> {
    if bytes.is_empty() {
        return is_all.then_some(FileKind::Empty);
    }
    // a safetensors header is shorter than 2²⁷ bytes and begins with a brace
    if bytes.len() > 8 && bytes[4..8] == [0; 4] && bytes[8] == b'{' {
        return Some(FileKind::Safetensors);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(FileKind::TorchZip);
    }
    if !is_all && bytes.len() < ENOUGH_BYTES {
        return None;
    }
    const SIGNATURES: [(&[u8], FileKind); 12] = [
        (b"PK\x05\x06", FileKind::TorchZip),
        (b"version https://git-lfs", FileKind::LfsPointer),
        (b"\x89HDF\r\n\x1a\n", FileKind::Hdf5),
        (b"GGUF", FileKind::Gguf),
        (b"ggml", FileKind::Gguf),
        (b"lmgg", FileKind::Gguf),
        (b"fmgg", FileKind::Gguf),
        (b"tjgg", FileKind::Gguf),
        (b"\x1f\x8b", FileKind::Compressed),
        (b"\x28\xb5\x2f\xfd", FileKind::Compressed),
        (b"7z\xbc\xaf\x27\x1c", FileKind::Compressed),
        (b"Rar!", FileKind::Compressed),
    ];
    if let Some((_, kind)) = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)) {
        return Some(*kind);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(FileKind::TorchTar);
    }
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii_start();
    Some(match *bytes {
        [0x80, 0..=5, ..] if is_legacy(bytes) => FileKind::TorchLegacy,
        [0x80, 0..=5, ..] => FileKind::OtherPickle,
        // a map of 1 to 15 entries, or one with a length of its own, and then a key that is a text
        [0x81..=0x8f, 0xa1..=0xbf | 0xd9, ..] | [0xde, _, _, 0xa1..=0xbf | 0xd9, ..] => FileKind::Msgpack,
        // the field ir_version, then the producer's name or the like
        [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x2a | 0x3a | 0x42, ..] if bytes.get(4..8) != Some(&[0; 4]) => FileKind::Onnx,
        _ if text.starts_with(b"<") => FileKind::WebPage,
        _ if text.starts_with(b"{") || text.starts_with(b"[") => FileKind::Json,
        _ if text.len() > 8 && text.iter().all(|b| matches!(b, 0x20..=0x7e | b'\t' | b'\r' | b'\n')) => FileKind::Text,
        _ => FileKind::Unknown,
    })
}

/// Whether the first pickle holds that number. In later protocols its length stands before it.
fn is_legacy(bytes: &[u8]) -> bool {
    bytes[2..].starts_with(LEGACY_MAGIC) || bytes.get(11..).is_some_and(|rest| rest.starts_with(LEGACY_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        let tar = [&b"sys_info"[..], &[0; 249], b"ustar\0"].concat();
        for (bytes, kind) in [
            (&b""[..], FileKind::Empty),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", FileKind::Safetensors),
            (b"\x40\0\0", FileKind::Unknown),
            (b"\x40\0\0\0\0\0\0\0\0", FileKind::Unknown),
            (b"PK\x03\x04\0\0", FileKind::TorchZip),
            (b"PK\x05\x06\0\0", FileKind::TorchZip),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", FileKind::TorchLegacy),
            (b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", FileKind::TorchLegacy),
            (b"\x80\x02}q\0.", FileKind::OtherPickle),
            (&tar, FileKind::TorchTar),
            (b"version https://git-lfs.github.com/spec/v1\n", FileKind::LfsPointer),
            (b"\n <!doctype html>", FileKind::WebPage),
            (b"\xef\xbb\xbf<html>", FileKind::WebPage),
            (b"{\"error\":\"not found\"}", FileKind::Json),
            (b"Entry not found", FileKind::Text),
            (b"\x89HDF\r\n\x1a\n\0", FileKind::Hdf5),
            (b"\x81\xabtransformer\x85", FileKind::Msgpack),
            (b"GGUF\x03\0\0\0", FileKind::Gguf),
            (b"\x08\x07\x12\x07pytorch", FileKind::Onnx),
            (b"\x1f\x8b\x08", FileKind::Compressed),
        ] {
            assert_eq!(of(bytes, true), Some(kind), "{bytes:?}");
            let of_prefix = (0..bytes.len()).find_map(|n| of(&bytes[..n], false));
            assert!(of_prefix.is_none_or(|early| early == kind), "{bytes:?}: a prefix is {of_prefix:?}");
            assert!(of(&[bytes, &[7; ENOUGH_BYTES]].concat(), false).is_some());
        }
    }
}
