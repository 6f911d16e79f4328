//! `learn train`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use learn::checkpoint::{Checkpoint, read_folder, read_model};
use learn::start::start;
use learn::text::read_tokenizer;
use learn::train::{Corpus, Event, Optimizer, Precision, Preset, Run, Settings};
use learn::{Error, Result};
use serde_json::{Value, json};

use crate::progress::{Progress, profile, spinner};

/// Trains a model on a folder of text; the same command again goes on where it was stopped.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `*.txt` or `*.txt.xz`, texts separated by `<|endoftext|>`; `*-valid.txt` is held out
    #[arg(long)]
    text: PathBuf,
    /// Folder of the run: settings, log, state, samples, and the checkpoints `best` and `last`
    #[arg(long)]
    out: PathBuf,
    /// Model and settings to begin with: demo, gpt2
    #[arg(long, default_value = "demo")]
    preset: String,
    /// A `config.json` instead of the preset's model
    #[arg(long, conflicts_with = "from")]
    config: Option<PathBuf>,
    /// A checkpoint's folder to go on from, with its own tokenizer (fine-tuning)
    #[arg(long)]
    from: Option<PathBuf>,
    /// A `tokenizer.json` to use instead of a new vocabulary
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Where tokens and vocabulary are kept; `tokens` in the run's folder by default
    #[arg(long)]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
}

/// What is to differ from the preset's settings.
#[derive(Debug, Args)]
pub struct Changes {
    /// Decides the start, the order of the text, dropout and samples
    #[arg(long)]
    seed: Option<u64>,
    /// Steps of the whole run
    #[arg(long)]
    steps: Option<u64>,
    /// Steps of linear warm-up
    #[arg(long)]
    warmup: Option<u64>,
    /// Last steps, in which the rate falls; 0 for a cosine over the whole run
    #[arg(long)]
    cooldown: Option<u64>,
    /// The highest learning rate
    #[arg(long)]
    rate: Option<f64>,
    /// The share of the rate that the run ends with
    #[arg(long)]
    last_share: Option<f64>,
    /// What updates the blocks' matrices: adamw or muon
    #[arg(long, value_parser = optimizer)]
    optimizer: Option<Optimizer>,
    /// Decoupled decay of matrices and embeddings
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Tokens of a row
    #[arg(long)]
    row_tokens: Option<usize>,
    /// Rows of a batch
    #[arg(long)]
    rows: Option<usize>,
    /// Batches whose gradients are added for one step
    #[arg(long)]
    accumulate: Option<usize>,
    /// Steps whose rows a thread of its own prepares beforehand; 0 prepares them between the steps
    #[arg(long)]
    prefetch: Option<usize>,
    /// Threads, each with a share of the rows
    #[arg(long)]
    threads: Option<usize>,
    /// Rows that a thread takes at once
    #[arg(long)]
    rows_at_once: Option<usize>,
    /// Compute a block's inner results again on the way back instead of keeping them
    #[arg(long)]
    recompute: Option<bool>,
    /// cpu, or through Burn: gpu, gpu:NUMBER, software-gpu, flex; several, separated by commas, share the rows
    #[arg(long)]
    device: Option<String>,
    /// What products of matrices are computed in on Burn's devices: fp32, f16 or bf16
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// Steps after which losses are read back from Burn's devices
    #[arg(long)]
    read_every: Option<usize>,
    /// Steps between two measurements on the held-out text
    #[arg(long)]
    held_out_every: Option<u64>,
    /// Steps between two saves
    #[arg(long)]
    save_every: Option<u64>,
    /// Steps between two samples; 0 for none before the end
    #[arg(long)]
    sample_every: Option<u64>,
}

fn optimizer(word: &str) -> std::result::Result<Optimizer, String> {
    serde_json::from_value(json!(word)).map_err(|e| e.to_string())
}

fn precision(word: &str) -> std::result::Result<Precision, String> {
    serde_json::from_value(json!(word)).map_err(|e| e.to_string())
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl Changes {
    pub fn apply(&self, settings: &mut Settings) {
        let schedule = &mut settings.schedule;
        set(&mut schedule.steps, self.steps);
        set(&mut schedule.warmup_steps, self.warmup);
        set(&mut schedule.cooldown_steps, self.cooldown.map(|steps| (steps > 0).then_some(steps)));
        set(&mut schedule.rate, self.rate);
        set(&mut schedule.last_share, self.last_share);
        set(&mut settings.seed, self.seed);
        set(&mut settings.optimizer, self.optimizer);
        set(&mut settings.weight_decay, self.weight_decay);
        set(&mut settings.row_tokens, self.row_tokens);
        set(&mut settings.rows, self.rows);
        set(&mut settings.accumulate, self.accumulate);
        set(&mut settings.prefetch, self.prefetch);
        set(&mut settings.threads, self.threads);
        set(&mut settings.rows_at_once, self.rows_at_once);
        set(&mut settings.recompute, self.recompute);
        set(&mut settings.device, self.device.clone());
        set(&mut settings.precision, self.precision);
        set(&mut settings.read_every, self.read_every);
        set(&mut settings.held_out_every, self.held_out_every);
        set(&mut settings.save_every, self.save_every);
        set(&mut settings.sample_every, self.sample_every);
    }
}

/// Runs it.
pub fn run(options: Options) -> Result<()> {
    let Preset { mut model, mut settings } = Preset::named(&options.preset)?;
    options.changes.apply(&mut settings);
    if let Some(path) = &options.config {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        model = serde_json::from_str(&text).map_err(|e| Error::file(path, "a `config.json`", e.to_string()))?;
    }
    let start = match &options.from {
        Some(folder) => read_folder(folder)?,
        None => fresh(&model, settings.seed)?,
    };
    start.warnings.iter().for_each(|warning| eprintln!("learn: {warning}"));

    let own_tokenizer = options.from.as_ref().map(|folder| folder.join("tokenizer.json"));
    let tokenizer = options.tokenizer.clone().or(own_tokenizer);
    if let Some(path) = &tokenizer {
        read_tokenizer(path)?; // before anything is written
    }
    let kept = options.tokens.clone().unwrap_or_else(|| options.out.join("tokens"));
    let reading = spinner("reading the text");
    let vocab_size = start.model.config.vocab_size;
    let corpus = Corpus::open(&options.text, &kept, tokenizer.as_deref(), vocab_size, settings.threads)?;
    reading.finish_and_clear();
    eprintln!("{} parameters, {} tokens to learn from", start.model.layout.n_params, corpus.n_train);

    let inputs = json!({ "text": options.text, "from": options.from, "tokenizer": options.tokenizer });
    go(Run::open(&options.out, settings, start, corpus, None, inputs)?, &options.out)
}

/// Runs to the end, or until Ctrl-C, and says what came out.
pub fn go(mut run: Run, out: &Path) -> Result<()> {
    let n_steps = run.settings().schedule.steps;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let handled = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice
        }
    });
    handled.map_err(|e| Error::option("signals", "a handler for Ctrl-C", e))?;
    let first = run.step_number();
    let began = Instant::now();
    let progress = Progress::of_steps(n_steps, first);
    let (mut last, mut fastest) = (began, Duration::MAX);
    let result = run.run(&stop, &mut |event| {
        if let Event::Step { n_told: n @ 1.., .. } = event {
            fastest = fastest.min(last.elapsed() / n as u32);
            last = Instant::now();
        }
        progress.tell(&event);
    });
    progress.end();
    result?;
    let done = run.step_number();
    if done > first {
        let fastest = run.settings().tokens_per_step() as f64 / fastest.as_secs_f64();
        let words = profile(&run.phases(), began.elapsed());
        eprintln!("{fastest:.0} tokens/s in the fastest step; {words}");
    }
    if done < n_steps {
        eprintln!("stopped after {done} of {n_steps} steps; the same command goes on from there");
    } else if let Some(best) = run.best() {
        let folder = out.join("best");
        eprintln!("best held-out loss {:.4} after {} steps: {}", best.loss, best.step, folder.display());
    }
    Ok(())
}

/// A model that has learnt nothing.
pub fn fresh(json: &Value, seed: u64) -> Result<Checkpoint> {
    let (model, config_json, warnings) = read_model(&json.to_string())?;
    let deviation = config_json.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02);
    let params = start(&model.config, &model.layout, deviation, seed);
    Ok(Checkpoint { model, config_json, params, warnings })
}
