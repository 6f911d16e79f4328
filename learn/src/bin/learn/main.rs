//! `learn`: trains a GPT-2 from text, scores what came out, and makes smaller models from larger ones.

mod distil;
mod plot;
mod progress;
mod prune;
mod score;
mod table;
mod train;
mod two_bits;

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
    Distil(Box<distil::Options>),
    Prune(Box<prune::Options>),
    TwoBits(two_bits::Options),
    Plot(plot::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(options) => train::run(*options),
        Command::Score(options) => score::run(&options),
        Command::Distil(options) => distil::run(*options),
        Command::Prune(options) => prune::run(*options),
        Command::TwoBits(options) => two_bits::run(&options),
        Command::Plot(options) => plot::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("learn: {error}");
            ExitCode::FAILURE
        }
    }
}
