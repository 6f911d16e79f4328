//! `learn`: trains a GPT-2 from text, and scores what came out.

mod progress;
mod score;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains a GPT-2 from text, and makes smaller models from larger ones.
#[derive(Debug, Parser)]
#[command(name = "learn", version, max_term_width = 110, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Options>),
    Score(score::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(options) => train::run(*options),
        Command::Score(options) => score::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("learn: {error}");
            ExitCode::FAILURE
        }
    }
}
