//! What a model weighs, how fast this project's CPU engine writes with it, and how well it predicts a text.

use std::fmt;
use std::time::Instant;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::packing;
use gpt2_web::engine::cpu::Linked;
use gpt2_web::engine::{CpuEngine, Engine, Rows};
use gpt2_web::sampler::argmax;
use gpt2_web::tokenizer::Tokenizer;
use pollster::block_on;

use crate::Result;
use crate::checkpoint::{Checkpoint, Stored, safetensors};
use crate::score::{Score, score};

/// Most tokens that are written to measure the speed.
const MAX_TOKENS: usize = 200;

/// How often they are written; the fastest counts.
const N_RUNS: usize = 5;

/// What was measured of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was done to it.
    pub name: String,
    /// How many parameters there are.
    pub n_params: usize,
    /// How many of those in the blocks' matrices are 0.
    pub n_zeros: usize,
    /// Bytes of its weights as q8 in the engine.
    pub q8_bytes: u64,
    /// Tokens per second that the engine writes with one thread in q8, without any prompt.
    pub tokens_per_s: f64,
    /// On the text.
    pub score: Score,
}

/// The heading of a table of [`Measured`].
pub const HEADING: &str = "| | parameters | zeros | bytes as q8 | tokens/s in q8 | bits per byte | perplexity |\n\
    |---|---|---|---|---|---|---|";

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { name, n_params, n_zeros, q8_bytes, tokens_per_s, score } = self;
        let (bits, perplexity) = (score.bits_per_byte(), score.perplexity());
        write!(f, "| {name} | {n_params} | {n_zeros} | {q8_bytes} | {tokens_per_s:.0} | {bits:.4} | {perplexity:.2} |")
    }
}

/// Measures a model on pieces of a text.
///
/// # Errors
/// Weights that the engine refuses, or a text that the tokenizer refuses.
pub fn measure(
    name: &str,
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    pieces: &[&str],
    n_lanes: usize,
) -> Result<Measured> {
    let Checkpoint { model, params, .. } = checkpoint;
    let matrices = model.layout.slots.iter().filter(|slot| slot.is_block_matrix());
    Ok(Measured {
        name: name.to_string(),
        n_params: model.layout.n_params,
        n_zeros: matrices.map(|slot| params[slot.range.clone()].iter().filter(|&&x| x == 0.0).count()).sum(),
        q8_bytes: packing::n_bytes(&model.config, Dtype::Q8),
        tokens_per_s: tokens_per_s(checkpoint)?,
        score: score(model, params, tokenizer, pieces, n_lanes)?,
    })
}

/// The CPU engine with this model, one thread.
///
/// # Errors
/// Weights that the engine refuses.
pub fn engine(checkpoint: &Checkpoint, dtype: Dtype) -> Result<CpuEngine<Linked>> {
    let Checkpoint { model, params, .. } = checkpoint;
    let bytes = safetensors(&model.layout, params, Stored::F32)?;
    let (engine, _) = CpuEngine::load(model.config.clone(), dtype, |stream| {
        stream.begin_file("model.safetensors", Some(bytes.len() as u64))?;
        stream.write(&bytes)
    })?;
    Ok(engine)
}

fn tokens_per_s(checkpoint: &Checkpoint) -> Result<f64> {
    let engine = engine(checkpoint, Dtype::Q8)?;
    let n_tokens = MAX_TOKENS.min(checkpoint.model.config.n_positions);
    let mut least = f64::INFINITY;
    for _ in 0..N_RUNS {
        let began = Instant::now();
        write(&engine, &[0], n_tokens)?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(n_tokens as f64 / least)
}

/// The `n_tokens` most likely tokens after a prompt, one after the other.
fn write(engine: &CpuEngine<Linked>, prompt: &[u32], n_tokens: usize) -> Result<Vec<u32>> {
    let mut cache = engine.new_cache();
    let mut next = prompt.to_vec();
    let mut written = Vec::with_capacity(n_tokens);
    for _ in 0..n_tokens {
        let logits = block_on(engine.forward(&mut cache, &next, Rows::Last, false))?.logits;
        let id = argmax(&logits)?;
        written.push(id);
        next = vec![id];
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::read_folder;
    use crate::fused::Workspace;

    #[test]
    fn the_engine_writes_what_the_trainer_expects() {
        let demo = read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo")).unwrap();
        let written = write(&engine(&demo, Dtype::Fp32).unwrap(), &[0], 12).unwrap();
        let ids: Vec<u32> = [0].into_iter().chain(written.iter().copied()).collect();
        let v = demo.model.config.vocab_size;
        let logits = demo.model.logits(&demo.params, &ids, ids.len(), &mut Workspace::default());
        for (row, id) in logits.chunks_exact(v).zip(&written) {
            assert_eq!(argmax(row).unwrap(), *id);
        }
    }
}
