//! `learn distil`

use std::path::PathBuf;

use clap::Args;
use learn::checkpoint::read_folder;
use learn::fused::Softened;
use learn::text::read_tokenizer;
use learn::train::{Corpus, Preset, Run};
use learn::{Error, Result};
use serde_json::{Value, json};

use crate::progress::spinner;
use crate::table::{Scored, Table};
use crate::train::{Changes, fresh, go};

/// Trains a smaller model on a text and on what a larger one expects of it (Hinton et al. 2015); tells both before and after.
#[derive(Debug, Args)]
pub struct Options {
    /// The larger model's folder; its tokenizer becomes the student's
    #[arg(long)]
    teacher: PathBuf,
    /// The smaller model: a checkpoint's folder to go on from, or a `config.json` to begin with
    #[arg(long)]
    student: PathBuf,
    /// Folder with `*.txt` or `*.txt.xz`, as for `train`
    #[arg(long)]
    text: PathBuf,
    /// Folder of the run, as for `train`; the table of before and after is `table.md`
    #[arg(long)]
    out: PathBuf,
    /// α, the share of the text's own next tokens in the loss; the rest is the teacher's
    #[arg(long, default_value_t = 0.5)]
    alpha: f32,
    /// T, which both models' distributions are flattened by
    #[arg(long, default_value_t = 2.0)]
    temperature: f32,
    /// Settings to begin with: demo, gpt2
    #[arg(long, default_value = "demo")]
    preset: String,
    /// Where tokens are kept; `tokens` in the run's folder by default
    #[arg(long)]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    scored: Scored,
    #[command(flatten)]
    changes: Changes,
}

/// Runs it.
pub fn run(options: Options) -> Result<()> {
    let Options { alpha, temperature, .. } = options;
    if !(0.0..=1.0).contains(&alpha) {
        return Err(Error::option("alpha", "a number from 0 to 1", alpha));
    }
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::option("temperature", "a number above 0", temperature));
    }
    let Preset { mut settings, .. } = Preset::named(&options.preset)?;
    options.changes.apply(&mut settings);
    let teacher = read_folder(&options.teacher)?;
    let student = match options.student.is_dir() {
        true => read_folder(&options.student)?,
        false => {
            let text = std::fs::read_to_string(&options.student).map_err(Error::io(&options.student))?;
            let json: Value = serde_json::from_str(&text)
                .map_err(|e| Error::file(&options.student, "a `config.json`", e.to_string()))?;
            fresh(&json, settings.seed)?
        }
    };
    teacher.warnings.iter().chain(&student.warnings).for_each(|warning| eprintln!("learn: {warning}"));
    let (large, small) = (&teacher.model.config, &student.model.config);
    if large.vocab_size != small.vocab_size {
        return Err(Error::option("student", format!("the teacher's {} tokens", large.vocab_size), small.vocab_size));
    }
    if large.n_positions < settings.row_tokens {
        let expected = format!("at most the teacher's {} positions", large.n_positions);
        return Err(Error::option("row-tokens", expected, settings.row_tokens));
    }
    let tokenizer_path = options.teacher.join("tokenizer.json");
    let (_, tokenizer) = read_tokenizer(&tokenizer_path)?;
    let kept = options.tokens.clone().unwrap_or_else(|| options.out.join("tokens"));
    let reading = spinner("reading the text");
    let corpus = Corpus::open(&options.text, &kept, Some(&tokenizer_path), small.vocab_size, settings.threads)?;
    reading.finish_and_clear();

    let mut table = Table::new(&options.scored, settings.threads)?;
    table.add("teacher", &teacher, &tokenizer)?;
    table.add("student before", &student, &tokenizer)?;
    let inputs = json!({
        "text": options.text, "teacher": options.teacher, "student": options.student,
        "alpha": alpha, "temperature": temperature,
    });
    let softened = Softened { alpha, temperature };
    go(Run::open(&options.out, settings, student, corpus, Some((teacher, softened)), inputs)?, &options.out)?;
    table.add("student after", &read_folder(&options.out.join("best"))?, &tokenizer)?;
    table.write(&options.out)
}
