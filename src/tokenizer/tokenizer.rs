//! A tokenizer that is ready to run.

use std::rc::Rc;

use super::encoder::Encoder;
use super::pieces::Pieces;
use super::post_processor::Template;
use super::stream::{Decoding, TextStream};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// Text ↔ token ids.
pub struct Tokenizer {
    encoder: Encoder,
    pieces: Rc<Pieces>,
    /// At the beginning of a text.
    decoding: Decoding,
    template: Template,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.vocab_size())
    }
}

impl Tokenizer {
    pub(super) fn new(encoder: Encoder, pieces: Rc<Pieces>, decoding: Decoding, template: Template) -> Self {
        Self { encoder, pieces, decoding, template }
    }

    /// Text → token ids, as `tokenizer(text)["input_ids"]` in transformers: with the special tokens that the tokenizer
    /// puts around a text. Special tokens that are written out in the text are recognised.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the vocabulary lacks a token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        Ok(self.template.whole(&self.encode_continuation(text)?))
    }

    /// A prompt → token ids: as [`Tokenizer::encode`], but without the special tokens that would end the text.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>> {
        Ok(self.template.prompt(&self.encode_continuation(text)?))
    }

    /// A text that continues another → token ids: as [`Tokenizer::encode`], but without special tokens around it.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<TokenId>> {
        self.encoder.encode(text)
    }

    /// Token ids → text, as `tokenizer.decode(ids, skip_special_tokens=True)` in transformers. Bytes that are no UTF-8
    /// become U+FFFD.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an id that no token has.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        let mut stream = self.stream();
        let mut text = String::new();
        for &id in ids {
            if self.pieces.get(id).is_none() {
                let expected = format!("ids of the {} tokens in the vocabulary", self.vocab_size());
                return Err(Error::invalid_option("token ids", expected, id.to_string()));
            }
            text.push_str(&stream.push(id));
        }
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// The text of tokens that come one by one, from the beginning of a text on.
    pub fn stream(&self) -> TextStream {
        TextStream::new(self.pieces.clone(), self.decoding.clone())
    }

    /// The same for tokens that follow others: what they add to the text of those.
    pub fn stream_after(&self, before: &[TokenId]) -> TextStream {
        let mut stream = self.stream();
        stream.pass(before);
        stream
    }

    /// The text of one token alone, as it is within a text: a special one's too; U+FFFD where it is only a part of a
    /// character; nothing for an id that no token has.
    pub fn piece_text(&self, id: TokenId) -> String {
        if let Some(text) = self.special_text(id) {
            return text.to_string();
        }
        let mut stream = self.stream();
        stream.skip_start();
        stream.push(id) + &stream.finish()
    }

    /// The text of a special token, such as end of text, which no decoded text shows; none for any other token.
    pub fn special_text(&self, id: TokenId) -> Option<&str> {
        self.pieces.special(id)
    }

    /// What a token is written with, a special token too: its bytes, if the tokenizer is byte-level, else its text in
    /// the vocabulary. None for an id that no token has.
    pub fn piece(&self, id: TokenId) -> Option<&[u8]> {
        self.pieces.get(id)
    }

    /// The bytes that a byte-level token adds to a text: nothing for a special token.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an id that no token has.
    pub fn visible_piece(&self, id: TokenId) -> Result<&[u8]> {
        match self.piece(id) {
            Some(_) => Ok(self.pieces.shown(id).unwrap_or_default()),
            None => {
                let expected = format!("ids of the {} tokens in the vocabulary", self.vocab_size());
                Err(Error::invalid_option("token ids", expected, id.to_string()))
            }
        }
    }

    /// Whether the token is special, such as end of text.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special_text(id).is_some()
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.pieces.n_ids()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::END_OF_TEXT;
    use crate::tokenizer::pieces::byte_alphabet;

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
            (Tokenizer::from_tokenizer_json(br#"{"model":{"type":"Unigram"}}"#).unwrap_err(), "model.vocab"),
            (Tokenizer::from_tokenizer_json(br#"{"model":{"type":"Wheel"}}"#).unwrap_err(), "model.type"),
            (
                Tokenizer::from_tokenizer_json(br#"{"model":{"vocab":{"a":0,"b":1},"merges":[["a","b"]]}}"#)
                    .unwrap_err(),
                "\"a b\"",
            ),
            (Tokenizer::from_vocab_and_merges(r#"{"a":0,"b":0}"#, "").unwrap_err(), "id 0 for"),
            (Tokenizer::from_tokenizer_json(b"{}").unwrap_err(), "tokenizer.json"),
        ] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
