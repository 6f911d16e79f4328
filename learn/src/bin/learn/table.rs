//! A table of what was done to a model and what it costs: shown, and kept beside what came out.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use learn::checkpoint::{Checkpoint, write_whole};
use learn::measure::{HEADING, measure};
use learn::score::pieces;
use learn::text::read_text;
use learn::{Error, Result};

/// What before and after are measured on.
#[derive(Debug, Args)]
pub struct Scored {
    /// A text that no model has seen; bits per byte and perplexity are measured on it
    #[arg(long)]
    score: PathBuf,
    /// Characters of a piece of it; each is scored by itself
    #[arg(long, default_value_t = 2400)]
    piece: usize,
}

/// The rows so far.
pub struct Table {
    text: String,
    piece: usize,
    threads: usize,
    words: String,
}

impl Table {
    /// An empty table.
    pub fn new(options: &Scored, threads: usize) -> Result<Self> {
        let text = read_text(&options.score)?;
        println!("{HEADING}");
        Ok(Self { text, piece: options.piece, threads, words: format!("{HEADING}\n") })
    }

    /// Measures a model and shows its row.
    pub fn add(&mut self, name: &str, model: &Checkpoint, tokenizer: &gpt2_web::tokenizer::Tokenizer) -> Result<()> {
        let row = measure(name, model, tokenizer, &pieces(&self.text, self.piece), self.threads)?;
        println!("{row}");
        self.words += &format!("{row}\n");
        Ok(())
    }

    /// Keeps it as `table.md` in a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        write_whole(&folder.join("table.md"), self.words.as_bytes())
    }
}
