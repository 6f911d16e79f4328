//! The four models that turn a word into tokens, as files describe them and as the `tokenizers` crate runs them.

use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::pieces::byte_alphabet;
use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

/// What a model is made of.
#[cfg_attr(not(feature = "full"), allow(dead_code))] // a build that runs BPE only does not ask what the others are
pub(super) enum ModelParts {
    /// Merges pairs of neighbours, best first (Sennrich et al. 2016).
    Bpe(Bpe),
    /// Takes the longest token that a word begins with, then the longest that goes on (BERT).
    WordPiece { vocab: Vocab, unk_token: String, continuing_prefix: String, max_word_chars: usize },
    /// A whole word is a token.
    WordLevel { vocab: Vocab, unk_token: String },
    /// The most likely of all ways to cut a text (Kudo 2018). A token's id is its place.
    Unigram { vocab: Vec<(String, f64)>, unk_id: Option<usize>, byte_fallback: bool },
}

/// A BPE model. Dropout is left out: it is for training.
#[derive(Default)]
pub(super) struct Bpe {
    pub vocab: Vocab,
    pub merges: Merges,
    pub unk_token: Option<String>,
    pub continuing_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

impl ModelParts {
    /// How many tokens there are.
    pub fn n_tokens(&self) -> usize {
        match self {
            Self::Bpe(Bpe { vocab, .. }) | Self::WordPiece { vocab, .. } | Self::WordLevel { vocab, .. } => vocab.len(),
            Self::Unigram { vocab, .. } => vocab.len(),
        }
    }

    /// Calls `f` with each token and its id, in no order.
    pub fn each_token(&self, mut f: impl FnMut(&str, TokenId) -> Result<()>) -> Result<()> {
        match self {
            Self::Bpe(Bpe { vocab, .. }) | Self::WordPiece { vocab, .. } | Self::WordLevel { vocab, .. } => {
                vocab.iter().try_for_each(|(token, &id)| f(token, id))
            }
            Self::Unigram { vocab, .. } => {
                vocab.iter().enumerate().try_for_each(|(id, (token, _))| f(token, id as TokenId))
            }
        }
    }
}

impl Bpe {
    /// The model, for text that arrives as the byte alphabet if `is_byte_level`, such that encoding is a function of the
    /// text that leaves none of it out. The `tokenizers` crate skips what has no token in silence, unless it is to put an
    /// unknown token there: one that is in no vocabulary makes it an error.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names `file` where the parts do not fit together.
    pub fn build(self, is_byte_level: bool, file: &str) -> Result<BPE> {
        const UNKNOWN_TOKEN: &str = "\0no token for this part of the text";
        let prefix = self.continuing_prefix.filter(|prefix| !prefix.is_empty());
        let suffix = self.end_of_word_suffix.filter(|suffix| !suffix.is_empty());
        check_merges(&self.merges, &self.vocab, prefix.as_deref().unwrap_or_default(), file)?;
        let has_every_byte = is_byte_level
            && prefix.is_none()
            && suffix.is_none()
            && byte_alphabet().all(|(c, _)| self.vocab.contains_key(&*c.encode_utf8(&mut [0; 4])));
        let mut builder = BPE::builder()
            .vocab_and_merges(self.vocab, self.merges)
            .fuse_unk(self.fuse_unk)
            .byte_fallback(self.byte_fallback)
            .ignore_merges(self.ignore_merges);
        let unknown = self.unk_token.or_else(|| (!has_every_byte).then(|| UNKNOWN_TOKEN.to_string()));
        if let Some(unknown) = unknown {
            builder = builder.unk_token(unknown);
        }
        if let Some(prefix) = prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder.build().map_err(|e| Error::file(file, "merges of tokens in the vocabulary", e.to_string()))
    }
}

/// Checks what the `tokenizers` crate takes for granted: it panics where a merge makes no token of the vocabulary, or
/// where the second of a pair is shorter than the prefix that marks it.
fn check_merges(pairs: &Merges, vocab: &Vocab, prefix: &str, file: &str) -> Result<()> {
    let mut whole = String::new();
    let wrong = pairs.iter().find(|(a, b)| {
        // the crate cuts as many bytes as the prefix has, whether or not the token begins with it
        let Some(rest) = b.get(prefix.len()..) else { return true };
        whole.clear();
        whole.push_str(a);
        whole.push_str(rest);
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
