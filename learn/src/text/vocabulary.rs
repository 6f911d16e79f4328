//! The vocabulary: byte-level BPE (Sennrich et al. 2016, on bytes as in Radford et al. 2019), by the `tokenizers` crate.

use std::fs;
use std::path::Path;

use gpt2_web::tokenizer::{END_OF_TEXT, Tokenizer};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::{Error, Result};

/// Learns a vocabulary of at most `n_tokens` from some texts, end of text first. → `tokenizer.json`
///
/// # Errors
/// What the `tokenizers` crate says, or [`Error::Option`] for a vocabulary that cannot hold every byte.
pub fn train_vocabulary<'a>(texts: impl Iterator<Item = &'a str> + Send, n_tokens: usize) -> Result<String> {
    if !(257..=65536).contains(&n_tokens) {
        return Err(Error::option("vocab-size", "257 (every byte and end of text) to 65536", n_tokens));
    }
    let said = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(n_tokens)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(ByteLevel::new(true, false, true)))
        .with_decoder(Some(bytes))
        .build()
        .map_err(said)?;
    // a paragraph is counted as one piece: merges never cross its end
    tokenizer.train(&mut trainer, texts.flat_map(|text| text.split("\n\n"))).map_err(said)?;
    tokenizer.to_string(true).map_err(said)
}

/// Reads a `tokenizer.json`.
///
/// # Errors
/// What the system says, or what the tokenizer is refused for.
pub fn read_tokenizer(path: &Path) -> Result<(Vec<u8>, Tokenizer)> {
    let json = fs::read(path).map_err(Error::io(path))?;
    let tokenizer = Tokenizer::from_tokenizer_json(&json)?;
    Ok((json, tokenizer))
}
