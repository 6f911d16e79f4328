//! What a file's tokenizer is checked for before the `tokenizers` crate, which trusts its files, may run it.

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{Model as _, Tokenizer as HfTokenizer};

use super::byte_alphabet;
use crate::error::{Error, Result, excerpt};

/// Makes encoding a function of the text that leaves none of it out. The `tokenizers` crate skips what has no token in
/// silence, unless it is to put an unknown token there: one that is in no byte-level vocabulary makes it an error.
/// Dropout is for training.
pub(super) fn make_exact(inner: &mut HfTokenizer) -> Result<()> {
    const UNKNOWN_TOKEN: &str = "for this byte";
    fn is_byte_level(pre_tokenizer: &PreTokenizerWrapper) -> bool {
        match pre_tokenizer {
            PreTokenizerWrapper::ByteLevel(_) => true,
            PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(is_byte_level),
            _ => false,
        }
    }
    let ModelWrapper::BPE(bpe) = inner.get_model() else {
        return Err(Error::unsupported("model.type (tokenizer.json)", "\"BPE\"", "another"));
    };
    let has_every_byte = inner.get_pre_tokenizer().is_some_and(is_byte_level)
        && byte_alphabet().keys().all(|c| bpe.token_to_id(c.encode_utf8(&mut [0; 4])).is_some());
    if bpe.dropout.is_none() && (has_every_byte || bpe.unk_token.is_some()) {
        return Ok(()); // nearly always: a copy takes its time and memory
    }
    let mut exact = bpe.clone();
    exact.dropout = None;
    exact.unk_token.get_or_insert_with(|| UNKNOWN_TOKEN.to_string());
    inner.with_model(exact);
    Ok(())
}

/// Lets through what byte-level tokenizers do to a text before the merges. Others of the crate's steps panic where a file
/// gives them an empty pattern or a length of 0. What a step is, is asked of what was read: the crate guesses where a
/// file's own word for it is none that it knows.
pub(super) fn check_steps(inner: &HfTokenizer) -> Result<()> {
    fn normalizes(step: &NormalizerWrapper) -> bool {
        use NormalizerWrapper as N;
        match step {
            N::NFC(_) | N::NFD(_) | N::NFKC(_) | N::NFKD(_) | N::Lowercase(_) | N::StripAccents(_) => true,
            N::Sequence(steps) => steps.as_ref().iter().all(normalizes),
            _ => false,
        }
    }
    fn splits(step: &PreTokenizerWrapper) -> bool {
        use PreTokenizerWrapper as P;
        match step {
            P::ByteLevel(_) | P::Split(_) | P::Digits(_) | P::Punctuation(_) => true,
            P::Sequence(steps) => steps.as_ref().iter().all(splits),
            _ => false,
        }
    }
    if let Some(step) = inner.get_normalizer().filter(|&step| !normalizes(step)) {
        let expected = "Unicode's forms, Lowercase or StripAccents";
        return Err(Error::unsupported("normalizer (tokenizer.json)", expected, json_text(step)));
    }
    if let Some(step) = inner.get_pre_tokenizer().filter(|&step| !splits(step)) {
        let expected = "ByteLevel, Split, Digits or Punctuation";
        return Err(Error::unsupported("pre_tokenizer (tokenizer.json)", expected, json_text(step)));
    }
    Ok(())
}

pub(super) fn json_text(step: &impl serde::Serialize) -> String {
    excerpt(&serde_json::to_string(step).unwrap_or_default())
}

/// Checks what the `tokenizers` crate takes for granted: it panics where a merge makes no token of the vocabulary.
pub(super) fn check_bpe(json: &[u8], file: &str) -> Result<()> {
    let json: Value = serde_json::from_slice(json).map_err(|e| Error::file(file, "JSON", e.to_string()))?;
    let model = &json["model"];
    let kind = model["type"].as_str().unwrap_or("BPE"); // absent in old files
    if kind != "BPE" {
        return Err(Error::unsupported("model.type (tokenizer.json)", "\"BPE\"", format!("\"{kind}\"")));
    }
    for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if let Some(found) = model[affix].as_str().filter(|s| !s.is_empty()) {
            let field = format!("model.{affix} (tokenizer.json)");
            return Err(Error::unsupported(field, "none, as in byte-level BPE", format!("\"{found}\"")));
        }
    }
    let pair = |merge: &Value| match merge {
        Value::String(line) => line.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    };
    let merges: &[Value] = model["merges"].as_array().map_or(&[], Vec::as_slice);
    let pairs: Option<Vec<_>> = merges.iter().map(pair).collect();
    let Some(pairs) = pairs else {
        return Err(Error::file(file, "two pieces in each of `model.merges`", "another form"));
    };
    check_merges(&pairs, |token| model["vocab"].get(token).is_some(), file)
}

pub(super) fn check_merges(pairs: &[(String, String)], is_token: impl Fn(&str) -> bool, file: &str) -> Result<()> {
    match pairs.iter().find(|(a, b)| ![a, b, &format!("{a}{b}")].iter().all(|token| is_token(token))) {
        None => Ok(()),
        Some((a, b)) => {
            let found = format!("\"{}\"", excerpt(&format!("{a} {b}")));
            Err(Error::file(file, "merges of tokens in the vocabulary that make one in it", found))
        }
    }
}
