//! Text ↔ token ids: GPT-2's byte-level BPE on the `tokenizers` crate, and the way back without splitting a character.

mod stop;
mod untrusted;
mod utf8;

pub use stop::StopStrings;
pub use utf8::Utf8Stream;

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::error::{Error, Result, excerpt};
use untrusted::{check_bpe, check_merges, check_steps, json_text, make_exact};

/// The number of a token in the vocabulary.
pub type TokenId = u32;

/// GPT-2's one special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A byte-level BPE tokenizer.
pub struct Tokenizer {
    inner: HfTokenizer,
    /// The bytes of each token, by id; none for an id that no token has.
    pieces: Vec<Option<Box<[u8]>>>,
    special: Vec<TokenId>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.vocab_size())
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a malformed file, [`Error::UnsupportedModel`] for one that is not byte-level.
    pub fn from_tokenizer_json(json: &[u8]) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        check_bpe(json, FILE)?;
        let mut inner = HfTokenizer::from_bytes(json).map_err(|e| Error::file(FILE, "a tokenizer", e.to_string()))?;
        if !matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            let found = inner.get_decoder().map_or("none".to_string(), json_text);
            return Err(Error::unsupported("decoder (tokenizer.json)", "\"ByteLevel\"", found));
        }
        check_steps(&inner)?;
        // A prompt is never cut or padded in silence, whatever the file was trained with.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::file(FILE, "a tokenizer", e.to_string()))?;
        Self::new(inner, FILE)
    }

    /// Reads a `vocab.json` (token → id) and a `merges.txt` (one pair a line, best first), as OpenAI published them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the file and, where it can, the line.
    pub fn from_vocab_and_merges(vocab: &str, merges: &str) -> Result<Self> {
        let vocab: Vocab = serde_json::from_str(vocab)
            .map_err(|e| Error::file("vocab.json", "an object of token → id", e.to_string()))?;
        let mut pairs = Vec::new();
        for (i, line) in merges.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with("#version")) {
            match line.split_once(' ') {
                Some((a, b)) if !b.contains(' ') => pairs.push((a.to_string(), b.to_string())),
                _ => {
                    let found = format!("\"{}\" in line {}", excerpt(line), i + 1);
                    return Err(Error::file("merges.txt", "two pieces separated by a space in each line", found));
                }
            }
        }
        check_merges(&pairs, |token| vocab.contains_key(token), "merges.txt")?;
        let special = vocab.contains_key(END_OF_TEXT);
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, pairs)
            .build()
            .map_err(|e| Error::file("merges.txt", "merges of tokens in vocab.json", e.to_string()))?;
        let mut inner = HfTokenizer::new(bpe);
        inner.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        inner.with_decoder(Some(ByteLevel::default()));
        if special {
            inner
                .add_special_tokens([AddedToken::from(END_OF_TEXT, true)])
                .map_err(|e| Error::file("vocab.json", "room for the special token", e.to_string()))?;
        }
        Self::new(inner, "vocab.json")
    }

    fn new(mut inner: HfTokenizer, file: &str) -> Result<Self> {
        make_exact(&mut inner)?;
        let bytes_of = byte_alphabet();
        let added = inner.get_added_tokens_decoder();
        let vocab = inner.get_vocab(true);
        let n_ids = vocab.values().max().map_or(0, |&max| (max as usize).saturating_add(1));
        // ids with holes are legal, but a file must not make us allocate far more than it holds
        if n_ids > 4 * vocab.len() + 1024 {
            return Err(Error::file(file, format!("ids near 0..{}", vocab.len()), format!("an id of {}", n_ids - 1)));
        }
        let mut pieces = vec![None; n_ids];
        for (token, id) in vocab {
            let piece: Option<Box<[u8]>> = match added.get(&id) {
                Some(added) => Some(added.content.as_bytes().into()), // as it is written, not in the byte alphabet
                None => token.chars().map(|c| bytes_of.get(&c).copied()).collect(),
            };
            let Some(piece) = piece else {
                let found = format!("token {id} \"{}\"", excerpt(&token));
                return Err(Error::file(file, "tokens in GPT-2's byte alphabet", found));
            };
            if pieces[id as usize].replace(piece).is_some() {
                let found = format!("id {id} for \"{}\" and for another", excerpt(&token));
                return Err(Error::file(file, "an id of its own for each token", found));
            }
        }
        let mut special: Vec<TokenId> = added.iter().filter(|(_, t)| t.special).map(|(&id, _)| id).collect();
        special.sort_unstable();
        Ok(Self { inner, pieces, special })
    }

    /// Text → token ids. Special tokens that are written out in the text are recognised; none is added.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the vocabulary lacks a byte that the text has.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding =
            encoding.map_err(|e| Error::file("tokenizer", "a token for every byte of the text", e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids → text. Special tokens are left out; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an id that no token has.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.visible_piece(id)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of a token, those of a special token too; none for an id that no token has.
    pub fn piece(&self, id: TokenId) -> Option<&[u8]> {
        self.pieces.get(id as usize)?.as_deref()
    }

    /// The bytes that a token adds to a text: nothing for a special token.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an id that no token has.
    pub fn visible_piece(&self, id: TokenId) -> Result<&[u8]> {
        match self.piece(id) {
            Some(_) if self.is_special(id) => Ok(&[]),
            Some(piece) => Ok(piece),
            None => {
                let expected = format!("ids of the {} tokens in the vocabulary", self.vocab_size());
                Err(Error::invalid_option("token ids", expected, id.to_string()))
            }
        }
    }

    /// Whether the token is special, such as end of text.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }
}

/// GPT-2 writes each byte as one printable character, so that a vocabulary is readable text: printable Latin-1 stands
/// for itself, the other bytes for U+0100 and on, in order (`bytes_to_unicode` in OpenAI's encoder.py).
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    (0..=255).filter_map(|b| Some((if printable(b) { char::from(b) } else { others.next()? }, b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        let mut alphabet: Vec<_> = byte_alphabet().into_iter().collect();
        alphabet.sort_by_key(|&(_, b)| b);
        for (c, b) in alphabet {
            vocab.insert(c.to_string(), b.into());
        }
        vocab.insert("he".into(), 256.into());
        vocab.insert(END_OF_TEXT.into(), 257.into());
        Tokenizer::from_vocab_and_merges(&serde_json::to_string(&vocab).unwrap(), "#version: 0.2\nh e\n").unwrap()
    }

    #[test]
    fn alphabet_is_gpt2s() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!((alphabet[&'Ġ'], alphabet[&'Ċ'], alphabet[&'a'], alphabet[&'Ń']), (b' ', b'\n', b'a', 0xad));
    }

    #[test]
    fn round_trip_and_special_tokens() {
        let t = tiny();
        assert_eq!(t.encode("he €").unwrap(), [256, 32, 0xe2, 0x82, 0xac]);
        assert_eq!(t.decode(&[256, 32, 0xe2, 0x82, 0xac]).unwrap(), "he €");
        assert_eq!(t.encode("he<|endoftext|>").unwrap(), [256, 257]);
        assert_eq!((t.decode(&[256, 257]).unwrap().as_str(), t.piece(257)), ("he", Some(END_OF_TEXT.as_bytes())));
        assert_eq!(t.encode("").unwrap(), [0u32; 0]);
        assert!(t.decode(&[258]).unwrap_err().to_string().contains("258"));
    }

    #[test]
    fn a_byte_without_a_token_is_an_error() {
        let t = Tokenizer::from_vocab_and_merges(r#"{"a":0,"b":1}"#, "").unwrap();
        assert_eq!(t.encode("abba").unwrap(), [0, 1, 1, 0]);
        let error = t.encode("abc").unwrap_err().to_string();
        assert!(error.contains("every byte"), "{error}");
    }

    #[test]
    fn dropout_is_for_training() {
        let json = r#"{"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
            "model":{"type":"BPE","dropout":1.0,"vocab":{"h":0,"e":1,"he":2},"merges":[["h","e"]]}}"#;
        assert_eq!(Tokenizer::from_tokenizer_json(json.as_bytes()).unwrap().encode("he").unwrap(), [2]);
    }

    #[test]
    fn steps_that_could_panic_are_refused() {
        let json = |key: &str, step: &str| {
            format!(
                r#"{{"{key}":{step},"decoder":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},
                   "model":{{"type":"BPE","vocab":{{"a":0}},"merges":[]}}}}"#
            )
        };
        for (key, step) in [
            ("normalizer", r#"{"type":"Replace","pattern":{"Regex":"b?"},"content":"a"}"#),
            (
                "normalizer",
                r#"{"type":"Sequence","normalizers":[{"type":"no such","pattern":{"Regex":"b?"},"content":"a"}]}"#,
            ),
            ("pre_tokenizer", r#"{"type":"FixedLength","length":0}"#),
        ] {
            let error = Tokenizer::from_tokenizer_json(json(key, step).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
        assert!(Tokenizer::from_tokenizer_json(json("normalizer", r#"{"type":"NFC"}"#).as_bytes()).is_ok());
    }

    #[test]
    fn malformed_files_are_named() {
        for (error, word) in [
            (Tokenizer::from_vocab_and_merges("[]", "").unwrap_err(), "vocab.json"),
            (Tokenizer::from_vocab_and_merges(r#"{"a":0}"#, "a b c").unwrap_err(), "line 1"),
            (Tokenizer::from_vocab_and_merges(r#"{"a":0}"#, "a b").unwrap_err(), "merges.txt"),
            (Tokenizer::from_vocab_and_merges(r#"{"a":0,"b":1}"#, "a b").unwrap_err(), "merges.txt"),
            (Tokenizer::from_vocab_and_merges(r#"{"a":4294967295}"#, "").unwrap_err(), "429496729"),
            (Tokenizer::from_tokenizer_json(br#"{"model":{"type":"Unigram"}}"#).unwrap_err(), "model.type"),
            (
                Tokenizer::from_tokenizer_json(br#"{"model":{"vocab":{"a":0,"b":1},"merges":[["a","b"]]}}"#)
                    .unwrap_err(),
                "\"a b\"",
            ),
            (Tokenizer::from_vocab_and_merges(r#"{"\u4e00":0}"#, "").unwrap_err(), "alphabet"),
            (Tokenizer::from_vocab_and_merges(r#"{"a":0,"b":0}"#, "").unwrap_err(), "id 0 for"),
            (Tokenizer::from_tokenizer_json(b"{}").unwrap_err(), "tokenizer.json"),
        ] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
