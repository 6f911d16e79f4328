//! The bytes of each token.

use std::collections::HashSet;
use std::ops::Range;

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// The bytes of every token, by id, in one allocation: there are 50 000, and most of them are short.
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Where in `bytes`; `None` for an id that no token has.
    places: Vec<Option<Range<u32>>>,
    /// How many tokens there are.
    n_tokens: usize,
}

impl Pieces {
    /// Those of a vocabulary, which is written in the byte alphabet. The added tokens, which are written as they are,
    /// are left for [`Self::put`].
    pub fn new(vocab: &Vocab, added: &[AddedToken], file: &str) -> Result<Self> {
        let added: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
        let byte_of = bytes_by_char();
        let mut pieces = Self { bytes: Vec::new(), places: Vec::new(), n_tokens: vocab.len() };
        let mut piece = Vec::new();
        for (token, &id) in vocab {
            if added.contains(token.as_str()) {
                continue;
            }
            piece.clear();
            for c in token.chars() {
                let Some(&Some(byte)) = byte_of.get(c as usize) else {
                    let found = format!("token {id} \"{}\"", excerpt(token));
                    return Err(Error::file(file, "tokens in GPT-2's byte alphabet", found));
                };
                piece.push(byte);
            }
            pieces.put(id, &piece, token, file)?;
        }
        Ok(pieces)
    }

    /// Notes the bytes of another token; `name` is what errors call it.
    pub fn put(&mut self, id: TokenId, piece: &[u8], name: &str, file: &str) -> Result<()> {
        let at = id as usize;
        // ids with holes are legal, but a file must not make us allocate far more than it holds
        if at > 4 * self.n_tokens + 1024 {
            let expected = format!("ids near 0..{}", self.n_tokens);
            return Err(Error::file(file, expected, format!("an id of {id}")));
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, None);
        }
        if self.places[at].is_some() {
            let found = format!("id {id} for \"{}\" and for another", excerpt(name));
            return Err(Error::file(file, "an id of its own for each token", found));
        }
        let begin = self.bytes.len() as u32; // files are far smaller than 4 GiB
        self.bytes.extend_from_slice(piece);
        self.places[at] = Some(begin..self.bytes.len() as u32);
        Ok(())
    }

    /// The bytes of a token; none for an id that no token has.
    pub fn get(&self, id: TokenId) -> Option<&[u8]> {
        let Range { start, end } = self.places.get(id as usize)?.clone()?;
        self.bytes.get(start as usize..end as usize)
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

/// The byte that a character stands for, by code point.
fn bytes_by_char() -> Vec<Option<u8>> {
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
}
