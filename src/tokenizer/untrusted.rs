//! What a file's tokenizer is checked for before the `tokenizers` crate, which trusts its files, may run it.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use super::file::Bpe;
use super::pieces::byte_alphabet;
use crate::error::{Error, Result, excerpt};

/// The model, such that encoding is a function of the text that leaves none of it out. The `tokenizers` crate skips
/// what has no token in silence, unless it is to put an unknown token there: one that is in no byte-level vocabulary
/// makes it an error.
pub(super) fn exact(bpe: Bpe, pre_tokenizer: Option<&PreTokenizerWrapper>, file: &str) -> Result<BPE> {
    const UNKNOWN_TOKEN: &str = "for this byte";
    fn is_byte_level(pre_tokenizer: &PreTokenizerWrapper) -> bool {
        match pre_tokenizer {
            PreTokenizerWrapper::ByteLevel(_) => true,
            PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(is_byte_level),
            _ => false,
        }
    }
    let Bpe { vocab, merges, unk_token, fuse_unk, byte_fallback, ignore_merges } = bpe;
    let has_every_byte = pre_tokenizer.is_some_and(is_byte_level)
        && byte_alphabet().all(|(c, _)| vocab.contains_key(&*c.encode_utf8(&mut [0; 4])));
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .fuse_unk(fuse_unk)
        .byte_fallback(byte_fallback)
        .ignore_merges(ignore_merges);
    let unknown = if has_every_byte { unk_token } else { unk_token.or_else(|| Some(UNKNOWN_TOKEN.to_string())) };
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    builder.build().map_err(|e| Error::file(file, "merges of tokens in the vocabulary", e.to_string()))
}

/// The normalizers that are let through, for people.
pub(super) const NORMALIZERS: &str = "Unicode's forms, Lowercase or StripAccents";

/// Lets through what byte-level tokenizers do to a text before the merges. Others of the crate's steps panic where a
/// file gives them an empty pattern or a length of 0. What a step is, is asked of what was read: the crate guesses
/// where a file's own word for it is none that it knows.
pub(super) fn check_steps(
    normalizer: Option<&NormalizerWrapper>,
    pre_tokenizer: Option<&PreTokenizerWrapper>,
) -> Result<()> {
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
    if let Some(step) = normalizer.filter(|&step| !normalizes(step)) {
        return Err(Error::unsupported("normalizer (tokenizer.json)", NORMALIZERS, json_text(step)));
    }
    if let Some(step) = pre_tokenizer.filter(|&step| !splits(step)) {
        let expected = "ByteLevel, Split, Digits or Punctuation";
        return Err(Error::unsupported("pre_tokenizer (tokenizer.json)", expected, json_text(step)));
    }
    Ok(())
}

pub(super) fn json_text(step: &impl serde::Serialize) -> String {
    excerpt(&serde_json::to_string(step).unwrap_or_default())
}

/// Checks what the `tokenizers` crate takes for granted: it panics where a merge makes no token of the vocabulary.
pub(super) fn check_merges(pairs: &[(String, String)], vocab: &Vocab, file: &str) -> Result<()> {
    let mut whole = String::new();
    let wrong = pairs.iter().find(|(a, b)| {
        whole.clear();
        whole.push_str(a);
        whole.push_str(b);
        ![a, b, &whole].iter().all(|token| vocab.contains_key(*token))
    });
    match wrong {
        None => Ok(()),
        Some((a, b)) => {
            let found = format!("\"{}\"", excerpt(&format!("{a} {b}")));
            Err(Error::file(file, "merges of tokens in the vocabulary that make one in it", found))
        }
    }
}
