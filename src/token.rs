//! The word that every room knows: a token's number.

/// The number of a token in the vocabulary.
pub type TokenId = u32;
