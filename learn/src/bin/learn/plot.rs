//! `learn plot`

use std::path::PathBuf;

use clap::Args;
use learn::Result;
use learn::train::{draw, read_log};

/// Draws a run's losses, learning rate and gradient norm as SVG from its log.
#[derive(Debug, Args)]
pub struct Options {
    /// The run's folder
    #[arg(long)]
    run: PathBuf,
    /// Where the picture goes; `curve.svg` in the run's folder by default
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs it.
pub fn run(options: &Options) -> Result<()> {
    let out = options.out.clone().unwrap_or_else(|| options.run.join("curve.svg"));
    draw(&read_log(&options.run.join("log.jsonl"))?, &out)?;
    println!("{}", out.display());
    Ok(())
}
