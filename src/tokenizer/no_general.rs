//! What a build without the feature `full` has in the place of [`general`](super::general): its names, and no value of
//! them. Such a build runs the tokenizers whose steps are GPT-2's, without the `tokenizers` crate's regular expressions
//! and tables, which are half of the other build.

use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::{AddedToken, AddedVocabulary};

use super::models::ModelParts;
use super::steps::Steps;
use crate::error::{Error, Result};
use crate::token::TokenId;

/// An encoder of any kind.
pub(super) enum GeneralEncoder {}

impl GeneralEncoder {
    /// # Errors
    /// [`Error::NotInThisBuild`], always.
    pub fn new(_model: ModelParts, _steps: Steps, _is_byte_level: bool, _file: &str) -> Result<Self> {
        Err(Error::NotInThisBuild("tokenizers other than GPT-2's"))
    }

    pub fn add_tokens(&mut self, _tokens: Vec<AddedToken>) -> tokenizers::Result<()> {
        match *self {}
    }

    pub fn split_special_tokens(&mut self, _split: bool) {
        match *self {}
    }

    pub fn encode(&self, _text: &str) -> Result<Vec<TokenId>> {
        match *self {}
    }

    pub fn added(&self) -> &AddedVocabulary {
        match *self {}
    }

    pub fn id(&self, _token: &str) -> Option<TokenId> {
        match *self {}
    }

    pub fn token_of_vocabulary(&self, _id: TokenId) -> Option<String> {
        match *self {}
    }
}

/// Puts a text in the place of what a regular expression matches.
#[derive(Clone, Debug)]
pub(super) enum ReplaceRegex {}

impl ReplaceRegex {
    /// # Errors
    /// [`Error::NotInThisBuild`], always.
    pub fn new(_pattern: ReplacePattern, _content: String) -> Result<Self> {
        Err(Error::NotInThisBuild("regular expressions in a tokenizer's decoder"))
    }

    pub fn apply(&self, _text: String) -> String {
        match *self {}
    }
}
