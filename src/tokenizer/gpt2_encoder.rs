//! Text → ids in GPT-2's way: added tokens first, then words, their bytes in the byte alphabet, and BPE. The `tokenizers`
//! crate's own way through these steps needs regular expressions; its BPE and its list of added tokens do not.

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder, MatchKind};
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, AddedVocabulary, Model, NormalizedString, Normalizer};

use super::pieces::byte_alphabet;
use super::words::words;
use crate::error::{Error, Result};
use crate::token::TokenId;

/// Finds added tokens: of those that begin at one place, the longest.
type Finder = DoubleArrayAhoCorasick<TokenId>;

/// An encoder whose steps are GPT-2's.
pub(super) struct Gpt2Encoder {
    model: BPE,
    added: AddedVocabulary,
    /// Those with `normalized: false` are looked for before the others.
    finders: [Option<Finder>; 2],
    add_prefix_space: bool,
    /// What each byte is written as.
    alphabet: Vec<char>,
}

/// GPT-2 has no normalizer.
struct Unchanged;

impl Normalizer for Unchanged {
    fn normalize(&self, _text: &mut NormalizedString) -> tokenizers::Result<()> {
        Ok(())
    }
}

impl Gpt2Encoder {
    /// An encoder without added tokens.
    pub fn new(model: BPE, add_prefix_space: bool) -> Self {
        let mut alphabet = vec!['\0'; 256];
        for (c, byte) in byte_alphabet() {
            alphabet[usize::from(byte)] = c;
        }
        Self { model, added: AddedVocabulary::new(), finders: [None, None], add_prefix_space, alphabet }
    }

    /// Whether it finds a token as the `tokenizers` crate does.
    pub fn can_add(token: &AddedToken) -> bool {
        !token.single_word && !token.lstrip && !token.rstrip
    }

    /// Adds tokens, each of which it [can](Self::can_add).
    pub fn add_tokens(&mut self, tokens: Vec<AddedToken>) -> tokenizers::Result<()> {
        self.added.add_tokens(tokens, &self.model, None::<&Unchanged>)?;
        for (normalized, finder) in [false, true].into_iter().zip(&mut self.finders) {
            let tokens = self.added.get_added_tokens_decoder().iter();
            let tokens: Vec<_> = tokens
                .filter(|(_, token)| token.normalized == normalized)
                .map(|(&id, token)| (token.content.as_str(), id))
                .collect();
            let builder = DoubleArrayAhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest);
            *finder = match tokens.is_empty() {
                true => None,
                false => Some(builder.build_with_values(tokens).map_err(|e| e.to_string())?),
            };
        }
        Ok(())
    }

    /// The added tokens.
    pub fn added(&self) -> &AddedVocabulary {
        &self.added
    }

    /// The vocabulary.
    pub fn model(&self) -> &BPE {
        &self.model
    }

    /// Text → ids.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the vocabulary lacks a token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        let wrong =
            |e: tokenizers::Error| Error::file("tokenizer", "a token for every byte of the text", e.to_string());
        let mut ids = Vec::new();
        self.encode_with(text, &self.finders, &mut ids).map_err(wrong)?;
        Ok(ids)
    }

    /// Encodes a text in which only these finders still look for added tokens.
    fn encode_with(&self, text: &str, finders: &[Option<Finder>], ids: &mut Vec<TokenId>) -> tokenizers::Result<()> {
        let Some((finder, finders)) = finders.split_first() else { return self.encode_words(text, ids) };
        let mut end = 0;
        for found in finder.iter().flat_map(|finder| finder.leftmost_find_iter(text)) {
            self.encode_with(&text[end..found.start()], finders, ids)?;
            ids.push(found.value());
            end = found.end();
        }
        self.encode_with(&text[end..], finders, ids)
    }

    /// Encodes a text without added tokens.
    fn encode_words(&self, text: &str, ids: &mut Vec<TokenId>) -> tokenizers::Result<()> {
        let needs_space = self.add_prefix_space && !text.is_empty() && !text.starts_with(' ');
        let with_space = needs_space.then(|| format!(" {text}"));
        let mut written = String::new();
        for word in words(with_space.as_deref().unwrap_or(text)) {
            written.clear();
            written.extend(word.bytes().map(|byte| self.alphabet[usize::from(byte)]));
            ids.extend(self.model.tokenize(&written)?.into_iter().map(|token| token.id));
        }
        Ok(())
    }
}
