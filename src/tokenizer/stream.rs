//! The text of tokens that come one by one.

use std::rc::Rc;

use super::decoder::TokenDecoder;
use super::pieces::Pieces;
use super::utf8::Utf8Stream;
use crate::token::TokenId;

/// How a tokenizer's pieces become text.
#[derive(Clone, Debug)]
pub(super) enum Decoding {
    /// The pieces are the bytes of the text.
    Bytes(Utf8Stream),
    /// They are tokens for a decoder.
    Tokens(Box<TokenDecoder>),
}

/// Turns tokens that come one by one into text. The pieces of text joined are what
/// [`Tokenizer::decode`](super::Tokenizer::decode) makes of all tokens; none ends inside a character.
#[derive(Clone, Debug)]
pub struct TextStream {
    pieces: Rc<Pieces>,
    decoding: Decoding,
    /// The end of what stood before this text and has been shown already, though the decoder still holds it.
    shown: String,
}

impl TextStream {
    /// The beginning of a text.
    pub(super) fn new(pieces: Rc<Pieces>, decoding: Decoding) -> Self {
        Self { pieces, decoding, shown: String::new() }
    }

    /// What these tokens add to a text is no part of the stream: it goes on after them.
    pub(super) fn pass(&mut self, ids: &[TokenId]) {
        for &id in ids {
            self.push(id);
        }
        self.shown = self.clone().finish();
    }

    /// As in the middle of a text.
    pub(super) fn skip_start(&mut self) {
        if let Decoding::Tokens(decoder) = &mut self.decoding {
            decoder.skip_start();
        }
    }

    /// Takes the next token. → the text that is complete with it, nothing for a special token or one that the tokenizer
    /// does not have
    pub fn push(&mut self, id: TokenId) -> String {
        let Some(piece) = self.pieces.shown(id) else { return String::new() };
        let text = match &mut self.decoding {
            Decoding::Bytes(utf8) => utf8.push(piece),
            Decoding::Tokens(decoder) => decoder.push(&String::from_utf8_lossy(piece)),
        };
        self.without_shown(text)
    }

    /// Ends the text. → what was held back because of what might have followed
    pub fn finish(&mut self) -> String {
        let text = match &mut self.decoding {
            Decoding::Bytes(utf8) => utf8.finish().to_string(),
            Decoding::Tokens(decoder) => decoder.finish(),
        };
        self.without_shown(text)
    }

    /// Leaves out what has been shown already, up to where the text became another with what followed.
    fn without_shown(&mut self, text: String) -> String {
        if self.shown.is_empty() || text.is_empty() {
            return text;
        }
        let pairs = text.chars().zip(self.shown.chars());
        let n_same: usize = pairs.take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
        self.shown = if n_same == text.len() { self.shown.split_off(n_same) } else { String::new() };
        text[n_same..].to_string()
    }
}
