//! A decoder's step that replaces what a regular expression matches.

use tokenizers::Decoder;
use tokenizers::normalizers::Replace;
use tokenizers::normalizers::replace::ReplacePattern;

use crate::error::{Error, Result};

/// Puts a text in the place of what a regular expression matches.
#[derive(Clone, Debug)]
pub(in crate::tokenizer) struct ReplaceRegex(Replace);

impl ReplaceRegex {
    /// Reads the expression.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one that is malformed.
    pub fn new(pattern: ReplacePattern, content: String) -> Result<Self> {
        let wrong =
            |e: tokenizers::Error| Error::file("tokenizer.json", "a decoder with a regular expression", e.to_string());
        Replace::new(pattern, content).map(Self).map_err(wrong)
    }

    /// The text with the replacements.
    pub fn apply(&self, text: String) -> String {
        // a decoder of this kind never fails: what its expression cannot match, it leaves
        self.0.decode_chain(vec![text.clone()]).map_or(text, |texts| texts.concat())
    }
}
