//! Text → ids by the steps of any tokenizer, as the `tokenizers` crate runs them. A build without the feature `full` has
//! `no_general.rs` in the place of this.

mod precompiled;
mod replace;
mod untrusted;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, AddedVocabulary, Model, Tokenizer as HfTokenizer};

use super::models::ModelParts;
use super::steps::Steps;
use crate::error::{Error, Result};
use crate::token::TokenId;

pub(super) use replace::ReplaceRegex;

/// An encoder of any kind.
pub(super) struct GeneralEncoder(HfTokenizer);

impl GeneralEncoder {
    /// An encoder without added tokens, for text that arrives at its model as the byte alphabet if `is_byte_level`.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for a step that would panic, [`Error::Checkpoint`] for a malformed one, or where the
    /// model's parts do not fit together.
    pub fn new(model: ModelParts, steps: Steps, is_byte_level: bool, file: &str) -> Result<Self> {
        let (normalizer, pre_tokenizer): (Option<NormalizerWrapper>, Option<PreTokenizerWrapper>) = match steps {
            Steps::Gpt2 { add_prefix_space } => {
                (None, Some(ByteLevel::default().add_prefix_space(add_prefix_space).into()))
            }
            Steps::Bert { do_lower_case, strip_accents, tokenize_chinese_chars } => {
                let normalizer = BertNormalizer::new(true, tokenize_chinese_chars, strip_accents, do_lower_case);
                (Some(normalizer.into()), Some(BertPreTokenizer.into()))
            }
            Steps::Written { normalizer, pre_tokenizer } => {
                normalizer.as_ref().map_or(Ok(()), untrusted::check_normalizer)?;
                pre_tokenizer.as_ref().map_or(Ok(()), untrusted::check_pre_tokenizer)?;
                (read(normalizer, "a normalizer", file)?, read(pre_tokenizer, "a pre-tokenizer", file)?)
            }
        };
        let mut inner = HfTokenizer::new(build(model, is_byte_level, file)?);
        inner
            .with_normalizer(normalizer)
            .map_err(|e| Error::file(file, "a normalizer", e.to_string()))?
            .with_pre_tokenizer(pre_tokenizer);
        Ok(Self(inner))
    }

    /// Adds tokens beside the vocabulary.
    pub fn add_tokens(&mut self, tokens: Vec<AddedToken>) -> tokenizers::Result<()> {
        self.0.add_tokens(tokens).map(|_| ())
    }

    /// Whether special tokens that are written out in a text are no more than text.
    pub fn split_special_tokens(&mut self, split: bool) {
        self.0.set_encode_special_tokens(split);
    }

    /// Text → ids.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the vocabulary lacks a token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        let encoding = self.0.encode_fast(text, false);
        let wrong =
            |e: tokenizers::Error| Error::file("tokenizer", "a token for every byte of the text", e.to_string());
        Ok(encoding.map_err(wrong)?.get_ids().to_vec())
    }

    /// The tokens beside the vocabulary.
    pub fn added(&self) -> &AddedVocabulary {
        self.0.get_added_vocabulary()
    }

    /// The id of a token, also of an added one.
    pub fn id(&self, token: &str) -> Option<TokenId> {
        self.0.token_to_id(token)
    }

    /// The token of the vocabulary that has an id, whatever has been added.
    pub fn token_of_vocabulary(&self, id: TokenId) -> Option<String> {
        self.0.get_model().id_to_token(id)
    }
}

fn read<T: DeserializeOwned>(step: Option<Value>, what: &str, file: &str) -> Result<Option<T>> {
    let wrong = |e: serde_json::Error| Error::file(file, what, e.to_string());
    step.map(|step| serde_json::from_value(step).map_err(wrong)).transpose()
}

fn build(model: ModelParts, is_byte_level: bool, file: &str) -> Result<ModelWrapper> {
    let wrong = |expected: &'static str| move |e: tokenizers::Error| Error::file(file, expected, e.to_string());
    Ok(match model {
        ModelParts::Bpe(bpe) => bpe.build(is_byte_level, file)?.into(),
        ModelParts::WordPiece { vocab, unk_token, continuing_prefix, max_word_chars } => WordPiece::builder()
            .vocab(vocab)
            .unk_token(unk_token)
            .continuing_subword_prefix(continuing_prefix)
            .max_input_chars_per_word(max_word_chars)
            .build()
            .map_err(wrong("a WordPiece model"))?
            .into(),
        ModelParts::WordLevel { vocab, unk_token } => {
            WordLevel::builder().vocab(vocab).unk_token(unk_token).build().map_err(wrong("a WordLevel model"))?.into()
        }
        ModelParts::Unigram { vocab, unk_id, byte_fallback } => {
            Unigram::from(vocab, unk_id, byte_fallback).map_err(wrong("a Unigram model"))?.into()
        }
    })
}
