//! `learn score`

use std::path::PathBuf;

use clap::Args;
use learn::Result;
use learn::checkpoint::read_folder;
use learn::score::{pieces, score};
use learn::text::{read_text, read_tokenizer};

/// Says how well a checkpoint predicts a text: bits per byte, nats per token, perplexity.
#[derive(Debug, Args)]
pub struct Options {
    /// The checkpoint's folder
    #[arg(long)]
    model: PathBuf,
    /// The text
    #[arg(long)]
    text: PathBuf,
    /// Characters of a piece; each is scored by itself
    #[arg(long, default_value_t = 2400)]
    piece: usize,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Runs it.
pub fn run(options: &Options) -> Result<()> {
    let checkpoint = read_folder(&options.model)?;
    checkpoint.warnings.iter().for_each(|warning| eprintln!("learn: {warning}"));
    let (_, tokenizer) = read_tokenizer(&options.model.join("tokenizer.json"))?;
    let text = read_text(&options.text)?;
    let pieces = pieces(&text, options.piece);
    let score = score(&checkpoint.model, &checkpoint.params, &tokenizer, &pieces, options.threads)?;
    println!(
        "{:.4} bits per byte, {:.4} nats per token, perplexity {:.3}; {} tokens, {} bytes, {} pieces",
        score.bits_per_byte(),
        score.nats_per_token(),
        score.perplexity(),
        score.n_tokens,
        score.n_bytes,
        pieces.len()
    );
    Ok(())
}
