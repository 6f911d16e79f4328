//! What each token is written with.

use std::ops::Range;

use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// The pieces of all tokens, by id, in one allocation: there are 50 000, and most of them are short. Byte-level
/// tokenizers keep the bytes that a token stands for, all others its text as the vocabulary writes it.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Where in `bytes`; `None` for an id that no token has.
    places: Vec<Option<Range<u32>>>,
    /// How many tokens there are.
    n_tokens: usize,
    /// By code point, for a byte-level tokenizer.
    byte_of: Option<Vec<Option<u8>>>,
    /// The tokens that no decoded text shows, by id.
    hidden: Vec<TokenId>,
    /// The added tokens that are special, by id, with their text.
    special: Vec<(TokenId, String)>,
}

impl Pieces {
    /// Room for a vocabulary of `n_tokens`, which is written in the byte alphabet if `is_byte_level`.
    pub fn new(n_tokens: usize, is_byte_level: bool) -> Self {
        let byte_of = is_byte_level.then(bytes_by_char);
        Self { bytes: Vec::new(), places: Vec::new(), n_tokens, byte_of, hidden: Vec::new(), special: Vec::new() }
    }

    /// Notes a token of the vocabulary in `file`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for an id that another token has, or one far beyond the others.
    pub fn insert(&mut self, token: &str, id: TokenId, file: &str) -> Result<()> {
        match self.get(id) {
            None => self.replace(token, id, file),
            Some(_) => {
                let found = format!("id {id} for \"{}\" and for another", excerpt(token));
                Err(Error::file(file, "an id of its own for each token", found))
            }
        }
    }

    /// Notes a token in the place of the one that had its id before, if one had.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for an id far beyond the others.
    pub fn replace(&mut self, token: &str, id: TokenId, file: &str) -> Result<()> {
        let at = id as usize;
        // ids with holes are legal, but a file must not make us allocate far more than it holds
        if at > 4 * self.n_tokens + 1024 {
            let expected = format!("ids near 0..{}", self.n_tokens);
            return Err(Error::file(file, expected, format!("an id of {id}")));
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, None);
        }
        let begin = self.bytes.len();
        let is_in_alphabet = match &self.byte_of {
            None => false,
            Some(byte_of) => {
                let bytes = token.chars().map_while(|c| byte_of.get(c as usize).copied().flatten());
                self.bytes.extend(bytes);
                self.bytes.len() - begin == token.chars().count()
            }
        };
        if !is_in_alphabet {
            // a token with a character outside the byte alphabet stands for itself
            self.bytes.truncate(begin);
            self.bytes.extend_from_slice(token.as_bytes());
        }
        self.places[at] = Some(begin as u32..self.bytes.len() as u32); // files are far smaller than 4 GiB
        Ok(())
    }

    /// Notes which tokens are special, with their text, and which of all are left out of a decoded text.
    pub fn set_special(&mut self, mut special: Vec<(TokenId, String)>, mut hidden: Vec<TokenId>) {
        special.sort_unstable();
        hidden.sort_unstable();
        (self.special, self.hidden) = (special, hidden);
    }

    /// The bytes of a token; none for an id that no token has.
    pub fn get(&self, id: TokenId) -> Option<&[u8]> {
        let Range { start, end } = self.places.get(id as usize)?.clone()?;
        self.bytes.get(start as usize..end as usize)
    }

    /// The bytes of a token that a decoded text shows.
    pub fn shown(&self, id: TokenId) -> Option<&[u8]> {
        if self.hidden.binary_search(&id).is_ok() { None } else { self.get(id) }
    }

    /// The text of a special token.
    pub fn special(&self, id: TokenId) -> Option<&str> {
        let at = self.special.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(&self.special[at].1)
    }

    /// One more than the highest id.
    pub fn n_ids(&self) -> usize {
        self.places.len()
    }
}

/// GPT-2 writes each byte as one printable character, so that a vocabulary is readable text: printable Latin-1 stands
/// for itself, the other bytes for U+0100 and on, in order (`bytes_to_unicode` in OpenAI's encoder.py).
pub(super) fn byte_alphabet() -> impl Iterator<Item = (char, u8)> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    (0..=255).filter_map(move |b| Some((if printable(b) { char::from(b) } else { others.next()? }, b)))
}

/// The byte that a character of the byte alphabet stands for, by code point.
pub(super) fn bytes_by_char() -> Vec<Option<u8>> {
    let mut bytes = vec![None; 0x200];
    for (c, b) in byte_alphabet() {
        bytes[c as usize] = Some(b);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_gpt2s() {
        assert_eq!(byte_alphabet().count(), 256);
        let bytes = bytes_by_char();
        let of = |c: char| bytes[c as usize];
        assert_eq!([of('Ġ'), of('Ċ'), of('a'), of('Ń')], [Some(b' '), Some(b'\n'), Some(b'a'), Some(0xad)]);
        assert_eq!([of(' '), of('\n'), of('\u{ad}')], [None; 3], "these are written otherwise");
    }

    #[test]
    fn a_token_outside_the_byte_alphabet_stands_for_itself() {
        let mut pieces = Pieces::new(3, true);
        for (id, token) in ["Ġa", "a b", "日本"].into_iter().enumerate() {
            pieces.insert(token, id as u32, "vocab.json").unwrap();
        }
        assert_eq!(pieces.get(0), Some(&b" a"[..]));
        assert_eq!(pieces.get(1), Some(&b"a b"[..]));
        assert_eq!(pieces.get(2), Some("日本".as_bytes()));
        assert!(pieces.insert("x", 1, "vocab.json").is_err());
    }
}
