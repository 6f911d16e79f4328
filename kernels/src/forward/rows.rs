//! Which logits a pass computes.

use core::ops::Range;

/// The new tokens whose logits are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// None: a part of a prompt that is not its end.
    #[default]
    None,
    /// The last one, whose logits predict the next token.
    Last,
    /// Every one: for scoring a text.
    All,
}

impl Rows {
    /// These tokens among `n_new` new ones.
    pub fn tokens(self, n_new: usize) -> Range<usize> {
        match self {
            Self::None => n_new..n_new,
            Self::Last => n_new.saturating_sub(1)..n_new,
            Self::All => 0..n_new,
        }
    }
}
