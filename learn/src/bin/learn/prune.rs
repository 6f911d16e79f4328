//! `learn prune`

use std::path::PathBuf;

use clap::Args;
use learn::checkpoint::{Checkpoint, read_folder, write_checkpoint};
use learn::fused::{FactorGradients, importance};
use learn::optim::Schedule;
use learn::prune::{least, without_neurons, zero_heads, zero_least};
use learn::text::{RowOrder, RowsOf, read_tokenizer};
use learn::train::{Corpus, Preset, Run, Settings};
use learn::{Error, Result};
use serde_json::json;

use crate::progress::spinner;
use crate::table::{Scored, Table};
use crate::train::{Changes, go};

/// Takes the least important neurons out of a model, sets heads or weights to 0, trains it on, and tells what it costs.
///
/// Fewer neurons are a smaller and faster model for every program. Heads and weights that are 0 stay in the file: GPT-2's
/// configuration cannot leave them out, so neither size nor speed changes, only quality.
#[derive(Debug, Args)]
pub struct Options {
    /// The checkpoint's folder
    #[arg(long)]
    model: PathBuf,
    /// Folder with `*.txt` or `*.txt.xz`, as for `train`: importance is measured on it, and it is learnt from
    #[arg(long)]
    text: PathBuf,
    /// Folder of what comes out: `pruned`, and after training on, all that `train` writes
    #[arg(long)]
    out: PathBuf,
    /// The share of each block's MLP neurons that is taken out
    #[arg(long, default_value_t = 0.0)]
    neurons: f64,
    /// How many heads, of all blocks together, are set to 0
    #[arg(long, default_value_t = 0)]
    heads: usize,
    /// The share of each matrix's weights, those of least magnitude, that is set to 0
    #[arg(long, default_value_t = 0.0)]
    weights: f64,
    /// Batches that importance is measured on
    #[arg(long, default_value_t = 32)]
    batches: usize,
    /// Settings of the training after it to begin with: demo, gpt2; unless told otherwise 400 steps with a third of the
    /// preset's rate, which falls as a cosine. `--steps 0` leaves it out
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

/// Rows of a batch that importance is measured on.
const ROWS: usize = 4;

/// Runs it.
pub fn run(options: Options) -> Result<()> {
    for (name, share) in [("neurons", options.neurons), ("weights", options.weights)] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::option(name, "a share from 0 to below 1", share));
        }
    }
    let before = read_folder(&options.model)?;
    before.warnings.iter().for_each(|warning| eprintln!("learn: {warning}"));
    let Preset { mut settings, .. } = Preset::named(&options.preset)?;
    settings.row_tokens = settings.row_tokens.min(before.model.config.n_positions);
    let rate = settings.schedule.rate / 3.0;
    settings.schedule = Schedule { rate, warmup_steps: 20, steps: 400, last_share: 0.05, cooldown_steps: None };
    options.changes.apply(&mut settings);
    let tokenizer_path = options.model.join("tokenizer.json");
    let (tokenizer_json, tokenizer) = read_tokenizer(&tokenizer_path)?;
    let kept = options.tokens.clone().unwrap_or_else(|| options.out.join("tokens"));
    let reading = spinner("reading the text");
    let n_tokens = before.model.config.vocab_size;
    let corpus = Corpus::open(&options.text, &kept, Some(&tokenizer_path), n_tokens, settings.threads)?;
    reading.finish_and_clear();

    let mut table = Table::new(&options.scored, settings.threads)?;
    table.add("before", &before, &tokenizer)?;
    let found = importance_in(&before, &corpus, &settings, options.batches)?;
    let pruned = prune(&options, before, &found)?;
    table.add("pruned", &pruned, &tokenizer)?;
    let files = [("tokenizer.json".to_string(), tokenizer_json)];
    write_checkpoint(&options.out.join("pruned"), &pruned, settings.dtype, &files)?;
    if settings.schedule.steps > 0 {
        // what was set to 0 stays so
        let zeros = if options.heads > 0 || options.weights > 0.0 { zeros(&pruned) } else { Vec::new() };
        let inputs = json!({
            "text": options.text, "model": options.model, "neurons": options.neurons, "heads": options.heads,
            "weights": options.weights, "batches": options.batches,
        });
        let mut run = Run::open(&options.out, settings, pruned, corpus, None, inputs)?;
        run.keep_zeros(zeros)?;
        go(run, &options.out)?;
        table.add("trained on", &read_folder(&options.out.join("best"))?, &tokenizer)?;
    }
    table.write(&options.out)
}

fn importance_in(
    model: &Checkpoint,
    corpus: &Corpus,
    settings: &Settings,
    n_batches: usize,
) -> Result<FactorGradients> {
    let mut order = RowOrder::new(corpus.n_train, settings.row_tokens, settings.seed)?;
    let batches: Vec<_> = (0..n_batches.max(1))
        .map(|batch| {
            let mut rows = RowsOf::new(settings.row_tokens);
            (0..ROWS).for_each(|row| rows.push(&corpus.train, order.row((batch * ROWS + row) as u64)));
            (rows.ids, rows.labels)
        })
        .collect();
    Ok(importance(&model.model, &model.params, &batches, settings.row_tokens))
}

fn prune(options: &Options, before: Checkpoint, found: &FactorGradients) -> Result<Checkpoint> {
    let config = &before.model.config;
    let (n_head, n_heads) = (config.n_head, config.n_layer * config.n_head);
    if options.heads >= n_heads {
        return Err(Error::option("heads", format!("fewer than all {n_heads}"), options.heads));
    }
    let n_neurons = (options.neurons * config.n_inner as f64).round() as usize;
    let gone: Vec<Vec<usize>> = found.neurons.iter().map(|values| least(values, n_neurons)).collect();
    let mut pruned = if n_neurons > 0 { without_neurons(&before, &gone)? } else { before };
    let heads = least(&found.heads.concat(), options.heads);
    let heads: Vec<(usize, usize)> = heads.into_iter().map(|head| (head / n_head, head % n_head)).collect();
    zero_heads(&pruned.model, &mut pruned.params, &heads);
    if options.weights > 0.0 {
        zero_least(&pruned.model, &mut pruned.params, options.weights);
    }
    Ok(pruned)
}

/// Where the blocks' matrices are 0.
fn zeros(model: &Checkpoint) -> Vec<usize> {
    let matrices = model.model.layout.slots.iter().filter(|slot| slot.is_block_matrix());
    matrices.flat_map(|slot| slot.range.clone()).filter(|&at| model.params[at] == 0.0).collect()
}
