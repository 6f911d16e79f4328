//! Text ↔ token ids: GPT-2's byte-level BPE on the `tokenizers` crate, and the way back without splitting a character.

mod file;
mod pieces;
mod stop;
mod untrusted;
mod utf8;

pub use stop::StopStrings;
pub use utf8::Utf8Stream;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::Vocab;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;
use file::{Bpe, Steps, TokenizerFile};
use pieces::Pieces;
use untrusted::{check_merges, check_steps, exact, json_text};

/// GPT-2's one special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A byte-level BPE tokenizer.
pub struct Tokenizer {
    inner: HfTokenizer,
    pieces: Pieces,
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
    pub fn from_tokenizer_json(json: impl AsRef<[u8]>) -> Result<Self> {
        const FILE: &str = "tokenizer.json";
        let mut file = TokenizerFile::from_json(json.as_ref())?;
        drop(json); // makes room for the tables, since WebAssembly's memory never shrinks
        let bpe = file.take_bpe()?;
        check_merges(&bpe.merges, &bpe.vocab, FILE)?;
        let Steps { normalizer, pre_tokenizer, decoder } = file.take_steps()?;
        let Some(decoder @ DecoderWrapper::ByteLevel(_)) = decoder else {
            let found = decoder.map_or("none".to_string(), |decoder| json_text(&decoder));
            return Err(Error::unsupported("decoder (tokenizer.json)", "\"ByteLevel\"", found));
        };
        check_steps(normalizer.as_ref(), pre_tokenizer.as_ref())?;
        let pieces = Pieces::new(&bpe.vocab, &file.added_tokens, FILE)?;
        let mut inner = HfTokenizer::new(exact(bpe, pre_tokenizer.as_ref(), FILE)?);
        inner
            .with_normalizer(normalizer)
            .map_err(|e| Error::file(FILE, "a normalizer", e.to_string()))?
            .with_pre_tokenizer(pre_tokenizer)
            .with_decoder(Some(decoder));
        Self::new(inner, pieces, file.added_tokens, FILE)
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
        check_merges(&pairs, &vocab, "merges.txt")?;
        let added = match vocab.contains_key(END_OF_TEXT) {
            true => vec![AddedToken::from(END_OF_TEXT, true)],
            false => Vec::new(),
        };
        let pieces = Pieces::new(&vocab, &added, "vocab.json")?;
        let pre_tokenizer = ByteLevel::default().add_prefix_space(false).into();
        let bpe = Bpe { vocab, merges: pairs, ..Bpe::default() };
        let mut inner = HfTokenizer::new(exact(bpe, Some(&pre_tokenizer), "merges.txt")?);
        inner.with_pre_tokenizer(Some(pre_tokenizer)).with_decoder(Some(ByteLevel::default()));
        Self::new(inner, pieces, added, "vocab.json")
    }

    /// The tokenizer with its added tokens, whose ids are known only now.
    fn new(mut inner: HfTokenizer, mut pieces: Pieces, added: Vec<AddedToken>, file: &str) -> Result<Self> {
        inner.add_tokens(added).map_err(|e| Error::file(file, "room for the added tokens", e.to_string()))?;
        let mut special = Vec::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            pieces.put(id, token.content.as_bytes(), &token.content, file)?;
            if token.special {
                special.push(id);
            }
        }
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
        self.pieces.get(id)
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
        self.pieces.n_ids()
    }
}

#[cfg(test)]
mod tests {
    use super::pieces::byte_alphabet;
    use super::*;

    fn tiny() -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        for (c, b) in byte_alphabet() {
            vocab.insert(c.to_string(), b.into());
        }
        vocab.insert("he".into(), 256.into());
        vocab.insert(END_OF_TEXT.into(), 257.into());
        Tokenizer::from_vocab_and_merges(&serde_json::to_string(&vocab).unwrap(), "#version: 0.2\nh e\n").unwrap()
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
            ("normalizer", r#"{"type":"Sequence","normalizers":[{"type":"Precompiled"}]}"#),
        ] {
            let error = Tokenizer::from_tokenizer_json(json(key, step).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
        assert!(Tokenizer::from_tokenizer_json(json("normalizer", r#"{"type":"NFC"}"#).as_bytes()).is_ok());
    }

    #[test]
    fn json_that_ends_within_a_step_is_an_error() {
        let error = Tokenizer::from_tokenizer_json(br#"{"decoder":{"type":"ByteLevel" "x"#).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
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
