//! The files that make a tokenizer, as they lie beside a checkpoint.

use crate::error::{Error, Result};

/// The names under which a tokenizer's files are published, in the order in which they are best asked for: with
/// [`TokenizerFiles::is_wanted`], most checkpoints need only the first two or three. Each of them may be absent.
pub const FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
];

/// The bytes of a tokenizer's files, as far as they exist.
#[derive(Clone, Debug, Default)]
pub struct TokenizerFiles {
    /// All of a tokenizer in one file.
    pub tokenizer_json: Option<Vec<u8>>,
    /// The class of the tokenizer and its options.
    pub tokenizer_config_json: Option<Vec<u8>>,
    /// Which tokens begin a text, end it, pad it and so on.
    pub special_tokens_map_json: Option<Vec<u8>>,
    /// Tokens beside the vocabulary, token → id.
    pub added_tokens_json: Option<Vec<u8>>,
    /// Byte-level BPE: token → id.
    pub vocab_json: Option<Vec<u8>>,
    /// Byte-level BPE: the merges, best first.
    pub merges_txt: Option<Vec<u8>>,
    /// WordPiece: one token in each line.
    pub vocab_txt: Option<Vec<u8>>,
    /// The model's own `config.json`, where old checkpoints name the tokenizer's class. Not one of [`FILES`], because
    /// whoever loads a model has read it already.
    pub config_json: Option<Vec<u8>>,
    /// The name of a SentencePiece model, which cannot be run here; its bytes are not kept.
    pub(super) sentencepiece: Option<String>,
}

impl TokenizerFiles {
    /// Takes a file's bytes. `name` is one of [`FILES`] or `config.json`; of a path, only its last part counts.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a name that is no tokenizer's file, and for bytes that are plainly something else: a
    /// Git LFS pointer, a web page, UTF-16.
    pub fn set(&mut self, name: &str, mut bytes: Vec<u8>) -> Result<()> {
        let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
        if let Some(found) = foreign(&bytes) {
            return Err(Error::file(name, "a tokenizer's file", found));
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3); // the byte order mark that some of Windows' editors write
        }
        let place = match base {
            "tokenizer.json" => &mut self.tokenizer_json,
            "tokenizer_config.json" => &mut self.tokenizer_config_json,
            "special_tokens_map.json" => &mut self.special_tokens_map_json,
            "added_tokens.json" => &mut self.added_tokens_json,
            "vocab.json" => &mut self.vocab_json,
            "merges.txt" => &mut self.merges_txt,
            "vocab.txt" => &mut self.vocab_txt,
            "config.json" => &mut self.config_json,
            _ if base.ends_with(".model") => {
                self.sentencepiece = Some(base.to_string());
                return Ok(());
            }
            _ => return Err(Error::file(name, format!("one of {}", FILES.join(", ")), "another name")),
        };
        *place = Some(bytes);
        Ok(())
    }

    /// Whether a file may still make a difference, given those that have been set: so that whoever asks for [`FILES`]
    /// in their order makes no request in vain.
    pub fn is_wanted(&self, name: &str) -> bool {
        let has_whole = self.tokenizer_json.is_some();
        let has_flags =
            self.tokenizer_config_json.as_deref().is_some_and(|json| mentions(json, b"added_tokens_decoder"));
        let has_vocab = self.vocab_json.is_some() && self.merges_txt.is_some();
        match name {
            "special_tokens_map.json" | "added_tokens.json" => !has_flags,
            "vocab.json" => !has_whole,
            "merges.txt" => !has_whole && self.vocab_json.is_some(),
            "vocab.txt" => !has_whole && !has_vocab,
            _ if name.ends_with(".model") => !has_whole && !has_vocab && self.vocab_txt.is_none(),
            _ => true,
        }
    }
}

fn mentions(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|at| at == word)
}

/// What bytes are that are no tokenizer's file.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let begins = |word: &[u8]| start.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    if begins(b"version https://git-lfs") {
        Some("a Git LFS pointer; the file itself comes with `git lfs pull`, or from the hub's `resolve` address")
    } else if begins(b"<!doctype html") || begins(b"<html") {
        Some("a web page (HTML); the address of the file itself is needed")
    } else if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        Some("text in UTF-16; it has to be saved as UTF-8")
    } else {
        None
    }
}

/// A text file's text.
///
/// # Errors
/// [`Error::Checkpoint`] if it is not UTF-8.
pub(super) fn text<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|e| Error::file(name, "text in UTF-8", format!("other bytes at {}", e.valid_up_to())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tokenizers_file_is_told_as_such() {
        for (bytes, word) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"[..], "Git LFS"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
        ] {
            for name in FILES {
                let error = TokenizerFiles::default().set(name, bytes.to_vec()).unwrap_err().to_string();
                assert!(error.contains(word) && error.contains(name), "{error}");
            }
        }
        assert!(TokenizerFiles::default().set("model.bin", Vec::new()).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_left_out() {
        let mut files = TokenizerFiles::default();
        files.set("folder/vocab.txt", b"\xef\xbb\xbf[PAD]".to_vec()).unwrap();
        assert_eq!(files.vocab_txt.as_deref(), Some(&b"[PAD]"[..]));
    }

    #[test]
    fn only_what_may_make_a_difference_is_wanted() {
        let mut files = TokenizerFiles::default();
        let wanted = |files: &TokenizerFiles| FILES.into_iter().filter(|name| files.is_wanted(name)).count();
        assert_eq!(wanted(&files), 9, "all but merges.txt, which is nothing without vocab.json");
        files.set("tokenizer.json", b"{}".to_vec()).unwrap();
        files.set("tokenizer_config.json", br#"{"added_tokens_decoder": {}}"#.to_vec()).unwrap();
        assert_eq!(wanted(&files), 2, "what it has");
    }
}
