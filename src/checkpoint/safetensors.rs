//! The header of a safetensors file: untrusted bytes until every range in it has been checked.
//!
//! Layout (<https://github.com/huggingface/safetensors>): u64 little-endian length N, N bytes of JSON
//! `{name: {dtype, shape, data_offsets: [begin, end]}}`, then the tensors' bytes with no hole and no overlap.

use serde_json::Value;

use super::stored_dtype::StoredDtype;
use crate::error::{Error, Result, excerpt};

/// Bytes before the JSON: its length.
pub const PREFIX_BYTES: usize = 8;
/// As in the format's reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name, as the file has it.
    pub name: String,
    /// The name of its number format; which need not be one that we read.
    pub dtype: String,
    /// Its shape, outermost first.
    pub shape: Vec<usize>,
    /// Where its bytes begin, counted from the end of the header.
    pub begin: u64,
    /// Where they end.
    pub end: u64,
}

/// A checked header.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The tensors, in the order of their bytes.
    pub tensors: Vec<TensorInfo>,
}

impl Header {
    /// Length of the JSON that follows the first eight bytes, not above what the format allows.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is above, or above what is left of a file of `file_bytes`.
    pub fn json_bytes(prefix: [u8; PREFIX_BYTES], file: &str, file_bytes: Option<u64>) -> Result<usize> {
        let n = u64::from_le_bytes(prefix);
        let room = file_bytes.map_or(u64::MAX, |n| n.saturating_sub(PREFIX_BYTES as u64));
        let max = MAX_HEADER_BYTES.min(room);
        if n < 2 || n > max {
            let found = format!("a length of {n}");
            return Err(Error::file(file, format!("a safetensors header of 2 to {max} bytes"), found));
        }
        Ok(n as usize)
    }

    /// Reads and checks the JSON.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for JSON of another form, for ranges that do not match the shapes, overlap, leave holes or
    /// do not end where the file of `file_bytes` ends.
    pub fn from_json(json: &[u8], file: &str, file_bytes: Option<u64>) -> Result<Self> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|e| Error::file(file, "a safetensors header in JSON", e.to_string()))?;
        let Value::Object(entries) = value else {
            return Err(Error::file(file, "a safetensors header that is a JSON object", excerpt(&value.to_string())));
        };
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            if name != "__metadata__" {
                tensors.push(tensor_info(name, &entry, file)?);
            }
        }
        // empty tensors first, so that a range that begins where one of them stands follows it
        tensors.sort_by_key(|t| (t.begin, t.end));
        let mut next = 0;
        for t in &tensors {
            if t.begin != next {
                let expected = format!("bytes that begin at {next}, without overlap or hole");
                return Err(Error::tensor(
                    file,
                    excerpt(&t.name),
                    expected,
                    format!("bytes that begin at {}", t.begin),
                ));
            }
            next = t.end;
        }
        // the ranges of formats that are not ours are the file's own word, up to 2⁶⁴
        let expected = next.checked_add((PREFIX_BYTES + json.len()) as u64);
        if let Some(file_bytes) = file_bytes.filter(|&n| Some(n) != expected) {
            let expected = expected.map_or("more than can be counted".to_string(), |n| format!("{n} bytes"));
            return Err(Error::file(file, format!("{expected}, by its header"), format!("{file_bytes} bytes")));
        }
        Ok(Self { tensors })
    }
}

fn tensor_info(name: String, entry: &Value, file: &str) -> Result<TensorInfo> {
    let wrong = |expected: &str, found: Option<&Value>| {
        let found = found.map_or("nothing".to_string(), |v| excerpt(&v.to_string()));
        Error::tensor(file, excerpt(&name), expected, found)
    };
    let dtype = entry.get("dtype").and_then(Value::as_str).ok_or_else(|| wrong("a `dtype`", entry.get("dtype")))?;
    let shape = entry
        .get("shape")
        .and_then(Value::as_array)
        .and_then(|dims| dims.iter().map(|d| usize::try_from(d.as_u64()?).ok()).collect::<Option<Vec<_>>>())
        .ok_or_else(|| wrong("a `shape`, a list of whole numbers", entry.get("shape")))?;
    let offsets = entry.get("data_offsets");
    let (begin, end) = offsets
        .and_then(Value::as_array)
        .and_then(|o| match o.as_slice() {
            [begin, end] => Some((begin.as_u64()?, end.as_u64()?)),
            _ => None,
        })
        .filter(|(begin, end)| begin <= end)
        .ok_or_else(|| wrong("`data_offsets` [begin, end] with begin ≤ end", offsets))?;
    if let Some(known) = StoredDtype::from_name(dtype) {
        let n_bytes = shape.iter().try_fold(known.n_bytes() as u64, |n, &d| n.checked_mul(d as u64));
        if n_bytes != Some(end - begin) {
            let expected = match n_bytes {
                Some(n) => format!("{n} bytes for {dtype} {shape:?}"),
                None => format!("a size of {dtype} {shape:?} that can be counted"),
            };
            return Err(Error::tensor(file, excerpt(&name), expected, format!("{} bytes", end - begin)));
        }
    }
    Ok(TensorInfo { dtype: dtype.to_string(), shape, begin, end, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> Result<Header> {
        Header::from_json(json.as_bytes(), "model.safetensors", None)
    }

    #[test]
    fn reads_in_the_order_of_the_bytes() {
        let h = header(
            r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
               "a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}"#,
        )
        .unwrap();
        assert_eq!(h.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "e", "b"]);
    }

    #[test]
    fn hostile_headers_are_refused() {
        for (json, word) in [
            ("[]", "object"),
            ("{", "JSON"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, "hole"),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                "overlap",
            ),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, "8 bytes"),
            (r#"{"a":{"dtype":"F32","shape":[4294967295,4294967295,4294967295],"data_offsets":[0,4]}}"#, "counted"),
            (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, "shape"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, "data_offsets"),
            (r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, "dtype"),
        ] {
            let error = header(json).unwrap_err().to_string();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        assert!(Header::json_bytes(u64::MAX.to_le_bytes(), "f", None).is_err());
        assert!(Header::json_bytes(100u64.to_le_bytes(), "f", Some(50)).is_err());
        assert_eq!(Header::json_bytes(42u64.to_le_bytes(), "f", Some(50)).unwrap(), 42);
        let error =
            Header::from_json(br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, "f", Some(5)).unwrap_err();
        assert!(error.to_string().contains("found 5 bytes"), "{error}");
        // 2⁶⁴ − 1 bytes of a format that is not ours: the sum with the header's own length must not wrap round to 5
        let json = br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}}"#;
        assert!(Header::from_json(json, "f", Some(json.len() as u64 + 7)).is_err());
    }
}
