//! What a file's steps are checked for before the `tokenizers` crate, which trusts its files, may read and run them.
//!
//! The checks look at every object in a step's JSON, whatever its `type`: where the file's word for a step is none that
//! the crate knows, it guesses.

use serde_json::Value;

use super::precompiled;
use crate::error::{Error, Result, excerpt};

/// Refuses the normalizers in which the crate panics: those that replace nothing by something, and a damaged table of
/// SentencePiece's.
///
/// # Errors
/// [`Error::UnsupportedModel`], [`Error::Checkpoint`]
pub(super) fn check_normalizer(step: &Value) -> Result<()> {
    each_object(step, &mut |object| {
        if let Some(map) = object.get("precompiled_charsmap") {
            precompiled::check(map)?;
        } else if object["type"] == "Precompiled" {
            return Err(refused("normalizer", "a `precompiled_charsmap` in Precompiled", object));
        }
        match object.get("pattern").and_then(Value::as_object) {
            None => Ok(()),
            Some(pattern) => {
                let string = pattern.get("String").is_none_or(|text| text != "");
                let regex = pattern.get("Regex").and_then(Value::as_str).is_none_or(matches_something);
                match string && regex {
                    true => Ok(()),
                    false => Err(refused("normalizer", "a pattern that never matches nothing", object)),
                }
            }
        }
    })
}

/// Refuses the pre-tokenizer in which the crate panics: pieces of a length of 0.
///
/// # Errors
/// [`Error::UnsupportedModel`]
pub(super) fn check_pre_tokenizer(step: &Value) -> Result<()> {
    each_object(step, &mut |object| match object.get("length") {
        Some(length) if length == 0 => Err(refused("pre_tokenizer", "a length of at least 1", object)),
        _ => Ok(()),
    })
}

fn refused(step: &str, expected: &str, found: &Value) -> Error {
    Error::unsupported("tokenizer.json", step, expected, excerpt(&found.to_string()))
}

fn each_object(json: &Value, check: &mut impl FnMut(&Value) -> Result<()>) -> Result<()> {
    match json {
        Value::Object(fields) => {
            check(json)?;
            fields.values().try_for_each(|field| each_object(field, check))
        }
        Value::Array(items) => items.iter().try_for_each(|item| each_object(item, check)),
        _ => Ok(()),
    }
}

/// Whether each match of a regular expression has at least one character, as far as can be told without an engine: some
/// that do are refused, none that does not is let through.
fn matches_something(pattern: &str) -> bool {
    let mut chars: Vec<char> = pattern.chars().rev().collect();
    alternatives(&mut chars, 0) && chars.is_empty()
}

/// Reads alternatives up to a `)` or the end; `rest` is reversed. → whether each of them consumes something
fn alternatives(rest: &mut Vec<char>, depth: usize) -> bool {
    let mut all_consume = true;
    let mut consumes = false;
    while let Some(c) = rest.pop() {
        let atom = match c {
            ')' => {
                rest.push(c);
                break;
            }
            '|' => {
                all_consume &= std::mem::take(&mut consumes);
                continue;
            }
            '^' | '$' => false,
            '(' if depth > 50 => return false,
            '(' => {
                let is_plain = rest.last() != Some(&'?') || rest.ends_with(&[':', '?']);
                let inner = if is_plain {
                    rest.truncate(rest.len() - if rest.ends_with(&[':', '?']) { 2 } else { 0 });
                    alternatives(rest, depth + 1)
                } else {
                    alternatives(rest, depth + 1);
                    false // a look-around consumes nothing, and flags are no atom
                };
                if rest.pop() != Some(')') {
                    return false;
                }
                inner && is_plain
            }
            '[' => match skip_class(rest) {
                true => true,
                false => return false,
            },
            // classes of characters and escaped signs; other letters may be anchors or references
            '\\' => match rest.pop() {
                Some('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 'r' | 't') => true,
                Some('p' | 'P') if rest.last() == Some(&'{') => {
                    while rest.pop().is_some_and(|c| c != '}') {}
                    true
                }
                Some(c) => !c.is_alphanumeric(),
                None => return false,
            },
            _ => true,
        };
        let may_be_none = match rest.last() {
            Some('*' | '?') => {
                rest.pop();
                true
            }
            Some('+') => {
                rest.pop();
                false
            }
            Some('{') => {
                rest.pop();
                let is_none = rest.last().is_none_or(|c| !('1'..='9').contains(c));
                while rest.pop().is_some_and(|c| c != '}') {}
                is_none
            }
            _ => false,
        };
        while matches!(rest.last(), Some('?' | '+')) {
            rest.pop(); // lazy or possessive
        }
        consumes |= atom && !may_be_none;
    }
    all_consume && consumes
}

/// Reads a class of characters up to its `]`; one within another is refused.
fn skip_class(rest: &mut Vec<char>) -> bool {
    if rest.last() == Some(&'^') {
        rest.pop();
    }
    if rest.last() == Some(&']') {
        rest.pop();
    }
    while let Some(c) = rest.pop() {
        match c {
            ']' => return true,
            '[' => return false,
            '\\' => {
                rest.pop();
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_match_nothing_is_told() {
        for pattern in [" {2,}", "\\s+", "a", "[^a-z]b?", "(a|b)", "(?:ab)+x*", "\\.", "``", "\\p{L}+", "[\\]a]"] {
            assert!(matches_something(pattern), "{pattern}");
        }
        for pattern in [
            "", "b?", "a*", "(a|)", "^", "$", "(?=a)", "\\b", "a{0,3}", "a{,3}", "(a", "a)", "(?i)", "|a", "[",
            "(?:a?)+",
        ] {
            assert!(!matches_something(pattern), "{pattern}");
        }
    }

    #[test]
    fn steps_that_would_panic_are_refused() {
        let nested = |step: Value| json!({"type": "Sequence", "normalizers": [step]});
        for step in [
            json!({"type": "Replace", "pattern": {"Regex": "b?"}, "content": "a"}),
            json!({"type": "no such", "pattern": {"String": ""}, "content": "a"}),
            json!({"type": "Precompiled"}),
            json!({"type": "Precompiled", "precompiled_charsmap": "####"}),
        ] {
            assert!(check_normalizer(&step).is_err() && check_normalizer(&nested(step)).is_err());
        }
        assert!(check_normalizer(&json!({"type": "Replace", "pattern": {"String": " "}, "content": ""})).is_ok());
        assert!(check_pre_tokenizer(&json!({"type": "FixedLength", "length": 0})).is_err());
        assert!(check_pre_tokenizer(&json!({"type": "FixedLength", "length": 3})).is_ok());
    }
}
