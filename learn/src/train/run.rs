//! A run: steps, measurements, samples, and what is kept of them in its folder.
//!
//! ```text
//! run.json            all that is needed to repeat it
//! log.jsonl           loss, rate and gradient norm of each step; held-out losses
//! state.safetensors   from which it goes on to the bit
//! samples.txt         text at intervals
//! curve.svg           losses, rate and gradient norm, drawn at each measurement
//! best/, last/        checkpoints in the hub's layout
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::any_learner::AnyLearner;
use super::corpus::Corpus;
use super::curve::draw;
use super::log::{Line, Log};
use super::run_file::RunFile;
use super::state_file::{Best, read_state, write_state};
use super::{Batch, Settings, State, StepPhases, StepReport};
use crate::checkpoint::{Checkpoint, pretty, write_folder};
use crate::fused::{Model, Softened, Teacher, mix};
use crate::sample::sample;
use crate::text::{Loader, RowOrder, RowsOf};
use crate::{Error, Result};

/// What the samples begin with.
const PROMPTS: [&str; 3] = ["Once upon a time", "The old king", "\"Where are you going?\" said"];

/// Tokens of a sample.
const SAMPLE_TOKENS: usize = 100;

/// What happens in a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step is done.
    Step {
        /// What it showed.
        line: Line,
        /// Tokens per second since the run began or went on.
        tokens_per_s: f64,
        /// How many steps were told of at once; 0 for all but the first of them.
        n_told: usize,
    },
    /// The held-out text was measured.
    HeldOut {
        /// Steps so far.
        step: u64,
        /// Nats per token.
        loss: f64,
        /// Whether no measurement was better.
        is_best: bool,
    },
    /// A sample.
    Sample(String),
}

/// A run that is ready to begin or to go on.
pub struct Run {
    folder: PathBuf,
    settings: Settings,
    corpus: Corpus,
    config_json: Value,
    model: Model,
    learner: AnyLearner,
    teacher: Option<(Checkpoint, Softened)>,
    held_out: RowsOf,
    best: Option<Best>,
    log: Log,
}

impl Run {
    /// Begins a run in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// Settings or files that do not go together.
    pub fn open(
        folder: &Path,
        settings: Settings,
        start: Checkpoint,
        corpus: Corpus,
        teacher: Option<(Checkpoint, Softened)>,
        inputs: Value,
    ) -> Result<Self> {
        let Checkpoint { model, config_json, params, .. } = start;
        settings.check(model.config.n_positions)?;
        let n_words = corpus.tokenizer.vocab_size();
        if n_words > model.config.vocab_size {
            let expected = format!("at most the model's {} tokens", model.config.vocab_size);
            return Err(Error::option("tokenizer", expected, n_words));
        }
        let held_out = corpus.held_out(settings.held_out_tokens, settings.row_tokens)?;
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join("state.safetensors");
        let (state, best) = match path.exists() {
            true => read_state(&path, model.layout.n_params)?,
            false => (State::new(params), None),
        };
        let run_file = RunFile::new(settings.clone(), config_json.clone(), inputs);
        run_file.settle(&folder.join("run.json"), state.step)?;
        let log = Log::open(&folder.join("log.jsonl"), state.step)?;
        let learner = AnyLearner::new(model.clone(), &settings, state)?;
        let folder = folder.to_path_buf();
        Ok(Self { folder, settings, corpus, config_json, model, learner, teacher, held_out, best, log })
    }

    /// Steps done.
    pub fn step_number(&self) -> u64 {
        self.learner.step_number()
    }

    /// Where the time of the steps went.
    pub fn phases(&mut self) -> StepPhases {
        *self.learner.phases()
    }

    /// How it learns.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Keeps these parameters at 0 from now on.
    ///
    /// # Errors
    /// [`Error::Option`] on a device that does not do this.
    pub fn keep_zeros(&mut self, zeros: Vec<usize>) -> Result<()> {
        self.learner.keep_zeros(zeros)
    }

    /// The best measurement so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Every line of its log.
    pub fn lines(&self) -> &[Line] {
        &self.log.lines
    }

    /// Learns until the last step, or until `stop` is set, and saves.
    ///
    /// # Errors
    /// [`Error::Diverged`], or what the system says of a file. What was saved before stays.
    pub fn run(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let Settings { rows, accumulate, seed, row_tokens, .. } = self.settings;
        let n_steps = self.settings.schedule.steps;
        let order = RowOrder::new(self.corpus.n_train, row_tokens, mix(seed ^ 1))?;
        let first = self.step_number();
        let mut loader =
            Loader::start(self.corpus.train.clone(), order, rows * accumulate, first, self.settings.prefetch);
        let began = Instant::now();
        while self.step_number() < n_steps && !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let rows = loader.next_rows();
            self.learner.phases().rows += asked.elapsed();
            let mut reports = self.step(&rows)?;
            let step = self.step_number();
            let is_due = |every: u64| every > 0 && step.is_multiple_of(every);
            let is_last = step == n_steps;
            let is_measured = is_due(self.settings.held_out_every) || is_last;
            let is_saved = is_measured || is_due(self.settings.save_every);
            if is_saved || stop.load(Ordering::Relaxed) {
                reports.extend(self.learner.read()?);
            }
            let n_tokens = ((step - first) as usize * self.settings.tokens_per_step()) as f64;
            let tokens_per_s = n_tokens / began.elapsed().as_secs_f64();
            for (i, report) in reports.iter().enumerate() {
                let line = line_of(report, step + 1 - (reports.len() - i) as u64);
                self.log.push(line)?;
                tell(Event::Step { line, tokens_per_s, n_told: if i == 0 { reports.len() } else { 0 } });
            }
            if is_measured {
                tell(self.measure()?);
            }
            if is_due(self.settings.sample_every) || is_last {
                self.write_samples(tell)?;
            }
            if is_saved {
                self.save()?;
            }
            if is_measured && self.log.lines.len() > 2 {
                draw(&self.log.lines, &self.folder.join("curve.svg"))?;
            }
        }
        self.save()?;
        self.write_checkpoint("last")
    }

    fn step(&mut self, rows: &RowsOf) -> Result<Vec<StepReport>> {
        let Settings { rows: n_rows, accumulate, seed, .. } = self.settings;
        let number = self.step_number() * accumulate as u64;
        let batch = |i: usize| Batch {
            rows: rows.rows(i * n_rows..(i + 1) * n_rows),
            dropout_seed: Some(mix(seed ^ mix(number + i as u64 + 2))),
        };
        let batches: Vec<Batch> = (0..accumulate).map(batch).collect();
        let teacher = self.teacher.as_ref().map(|(teacher, softened)| Teacher {
            model: &teacher.model,
            params: &teacher.params,
            softened: *softened,
        });
        self.learner.step(&batches, teacher)
    }

    /// Measures the held-out text, and keeps the model if it is the best so far.
    fn measure(&mut self) -> Result<Event> {
        let n_rows = self.held_out.ids.len() / self.held_out.n_tokens;
        let rows = self.held_out.rows(0..n_rows);
        let loss = self.learner.loss(rows, self.settings.rows)?.cross_entropy();
        let step = self.step_number();
        self.log.push(Line::HeldOut { step, held_out: loss })?;
        let is_best = self.best.is_none_or(|best| loss < best.loss);
        if is_best {
            self.best = Some(Best { step, loss });
            self.write_checkpoint("best")?;
        }
        Ok(Event::HeldOut { step, loss, is_best })
    }

    fn write_samples(&self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let path = self.folder.join("samples.txt");
        let step = self.step_number();
        let state = self.learner.state();
        let mut text = format!("## after {step} steps\n\n");
        for (i, prompt) in PROMPTS.iter().enumerate() {
            let seed = self.settings.seed ^ i as u64;
            let sample = sample(&self.model, &state.params, &self.corpus.tokenizer, prompt, SAMPLE_TOKENS, seed)?;
            text += &format!("{sample}\n\n");
            tell(Event::Sample(sample));
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path))?;
        file.write_all(text.as_bytes()).map_err(Error::io(&path))
    }

    fn save(&mut self) -> Result<()> {
        self.log.flush()?;
        write_state(&self.folder.join("state.safetensors"), &self.learner.state(), self.best)
    }

    fn write_checkpoint(&self, name: &str) -> Result<()> {
        let end = self.corpus.end_of_text;
        let mut config = self.config_json.clone();
        (config["bos_token_id"], config["eos_token_id"]) = (json!(end), json!(end));
        let generation = json!({
            "bos_token_id": end, "eos_token_id": end, "do_sample": true, "temperature": 0.8, "top_k": 40
        });
        let files = [
            ("tokenizer.json".to_string(), self.corpus.tokenizer_json.clone()),
            ("generation_config.json".to_string(), pretty(&generation).into_bytes()),
        ];
        let folder = self.folder.join(name);
        write_folder(&folder, &config, &self.model.layout, &self.learner.state().params, self.settings.dtype, &files)
    }
}

fn line_of(report: &StepReport, step: u64) -> Line {
    let StepReport { sums, rate, grad_norm } = *report;
    Line::Step { step, loss: sums.cross_entropy(), rate, grad_norm }
}
