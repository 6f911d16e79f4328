//! The JSON files of a checkpoint, as Python writes them and as people save them again.

use serde_json::Value;

use super::file_kind::{self, FileKind};
use crate::error::{Error, Result};

/// Reads a JSON file of a checkpoint. A byte order mark in front is left out. The words `NaN`, `Infinity` and
/// `-Infinity`, which Python's `json` writes though the standard has no such numbers, become strings of the same text:
/// a field that nobody reads may hold them, and one that must be a number is refused with that word.
///
/// # Errors
/// [`Error::Checkpoint`] for text that is no JSON; it says so where the text is a web page or a Git LFS pointer.
pub fn read_json(file: &str, text: &str) -> Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = match serde_json::from_str(text) {
        // most files have none of these words, and need no copy
        Err(_) if text.contains("NaN") || text.contains("Infinity") => serde_json::from_str(&with_quoted_words(text)),
        parsed => parsed,
    };
    parsed.map_err(|e| {
        let found = match file_kind::of(text.as_bytes(), true) {
            Some(kind @ (FileKind::LfsPointer | FileKind::WebPage | FileKind::Empty)) => kind.description().to_string(),
            _ => e.to_string(),
        };
        Error::file(file, "JSON", found)
    })
}

/// The text with Python's words for what is no number put in quotation marks, except where they stand in a string.
fn with_quoted_words(text: &str) -> String {
    const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
    let (mut quoted, mut rest) = (String::with_capacity(text.len() + 16), text);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, here) = rest.split_at(at);
        quoted.push_str(before);
        let n_taken = if here.starts_with('"') {
            let n = string_bytes(here);
            quoted.push_str(&here[..n]);
            n
        } else if let Some(word) = WORDS.iter().find(|word| here.starts_with(**word)) {
            quoted.extend(["\"", word, "\""]);
            word.len()
        } else {
            quoted.push_str(&here[..1]);
            1
        };
        rest = &here[n_taken..];
    }
    quoted.push_str(rest);
    quoted
}

/// Bytes of the JSON string that the text begins with, its quotation marks among them.
fn string_bytes(text: &str) -> usize {
    let mut is_escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// What kind of value this is, for an error.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A number without a fraction, as a whole number: Python writes 12.0 where somebody computed it.
pub fn whole_number(value: &Value) -> Option<i64> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    let from_float = |x: f64| (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(from_float))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn python_s_words_are_strings_and_those_in_strings_stay() {
        let text = "\u{feff}{\"a\":NaN,\r\n\"b\":[-Infinity, Infinity,-1],\"NaN \\\" Infinity\":\"-Infinity\"}";
        let expected = json!({ "a": "NaN", "b": ["-Infinity", "Infinity", -1], "NaN \" Infinity": "-Infinity" });
        assert_eq!(read_json("f", text).unwrap(), expected);
        assert!(read_json("f", "{NaN").is_err() && read_json("f", "[\"Infinity").is_err());
        assert!(read_json("f", "{\"é\":Nano}").is_err());
    }

    #[test]
    fn what_is_no_json_is_named() {
        for (text, word) in [
            ("<!DOCTYPE html><html>", "web page"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "LFS"),
            ("", "empty"),
            ("{\"a\":", "EOF"),
        ] {
            let error = read_json("config.json", text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(whole_number(&json!(12.0)), Some(12));
        assert_eq!(whole_number(&json!(-1)), Some(-1));
        for none in [json!(1.5), json!(1e300), json!("12"), json!(null)] {
            assert_eq!(whole_number(&none), None, "{none}");
        }
    }
}
