//! `learn two-bits`

use std::path::PathBuf;

use clap::Args;
use learn::Result;
use learn::checkpoint::read_folder;
use learn::text::{RowOrder, read_tokenizer};
use learn::train::Corpus;
use learn::two_bits::{round_to_nearest, round_with_feedback};

use crate::table::{Scored, Table};

/// Tells what two bits a weight would cost: rounded to nearest, and with error feedback (GPTQ). Writes no model.
#[derive(Debug, Args)]
pub struct Options {
    /// The checkpoint's folder
    #[arg(long)]
    model: PathBuf,
    /// Folder with `*.txt` or `*.txt.xz`, as for `train`: the feedback is fitted to it
    #[arg(long)]
    text: PathBuf,
    /// Folder of tokens and table
    #[arg(long)]
    out: PathBuf,
    /// Where tokens are kept; `tokens` in that folder by default
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Rows, as long as the context, that the feedback is fitted to
    #[arg(long, default_value_t = 64)]
    rows: usize,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[command(flatten)]
    scored: Scored,
}

/// Runs it.
pub fn run(options: &Options) -> Result<()> {
    let exact = read_folder(&options.model)?;
    exact.warnings.iter().for_each(|warning| eprintln!("learn: {warning}"));
    let path = options.model.join("tokenizer.json");
    let (_, tokenizer) = read_tokenizer(&path)?;
    let kept = options.tokens.clone().unwrap_or_else(|| options.out.join("tokens"));
    let config = &exact.model.config;
    let corpus = Corpus::open(&options.text, &kept, Some(&path), config.vocab_size, options.threads)?;
    let mut order = RowOrder::new(corpus.n_train, config.n_positions, 1)?;
    let rows: Vec<Vec<u32>> = (0..options.rows as u64)
        .map(|row| corpus.train.ids(order.row(row).start, config.n_positions).collect())
        .collect();

    let mut table = Table::new(&options.scored, options.threads)?;
    table.add("as it is", &exact, &tokenizer)?;
    let mut plain = exact.clone();
    round_to_nearest(&plain.model, &mut plain.params);
    table.add("2 bits, to nearest", &plain, &tokenizer)?;
    let mut fed = exact;
    round_with_feedback(&fed.model, &mut fed.params, &rows)?;
    table.add("2 bits, error feedback", &fed, &tokenizer)?;
    table.write(&options.out)
}
