//! A known-answer test: a tiny model whose logits transformers computed, run through every kind of step (prefill,
//! decode, a cut cache), and the nonlinearity of the model that is about to be loaded.
//!
//! A GPU driver that miscompiles a shader gives wrong numbers and no error; this is what notices.

use gpt2_kernels::Dtype;
use serde::Deserialize;

use super::cpu::CpuEngine;
use super::interface::{Cache, Engine, Rows};
use crate::checkpoint::{Activation, Config};
use crate::checkpoint::{CheckpointReader, TensorSink};
use crate::error::{Error, Result};
use crate::token::TokenId;

const CONFIG: &str = include_str!("../../tests/golden/self_test/config.json");
const CHECKPOINT: &[u8] = include_bytes!("../../tests/golden/self_test/model.safetensors");
const EXPECTED: &str = include_str!("../../tests/golden/self_test/expected.json");

/// Largest difference of a logit that is explained by rounding weights to this format, with room.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Fp32 => 1e-3, // GPUs may fuse and reorder
        Dtype::Fp16 => 1e-2,
        Dtype::Q8 => 0.3, // a tenth of what the logits of this small model vary by
        Dtype::Q4 => 3.0,
    }
}

#[derive(Deserialize)]
struct Expected {
    ids: Vec<TokenId>,
    greedy: Vec<TokenId>,
    /// Logits after `ids`.
    logits_last: Vec<f32>,
    /// Logits after `ids` and `greedy[0]`.
    logits_next: Vec<f32>,
}

/// The configuration of the test's model, with the nonlinearity of the model that is about to be loaded.
///
/// # Errors
/// None, unless this build is broken.
pub fn config(activation_function: Activation) -> Result<Config> {
    Ok(Config { activation_function, ..Config::from_json(CONFIG)? })
}

/// Writes the checkpoint of the test's model to `sink`. → the sink
///
/// # Errors
/// Those of the sink.
pub fn write<S: TensorSink>(sink: S) -> Result<S> {
    let mut stream = CheckpointReader::new(config(Activation::GeluNew)?, sink);
    read_into(&mut stream)?;
    Ok(stream.finish()?.0)
}

fn read_into<S: TensorSink>(stream: &mut CheckpointReader<S>) -> Result<()> {
    stream.begin_file("self-test", Some(CHECKPOINT.len() as u64))?;
    stream.write(CHECKPOINT)
}

/// Runs the test on an engine that holds the test's model. → one line to be shown: passed, with the largest difference
///
/// # Errors
/// [`Error::InvalidLogits`] that says what differed and by how much.
pub async fn run<E: Engine>(engine: &E, dtype: Dtype) -> Result<String> {
    let expected = expected(engine.config().activation_function).await?;
    let differ = |what: &str, found: &[f32], expected: &[f32]| differ(what, found, expected, tolerance(dtype));
    let mut cache = engine.new_cache();
    let whole = engine.forward(&mut cache, &expected.ids, Rows::Last, false).await?.logits;
    let mut worst = differ("prefill", &whole, &expected.logits_last)?;
    let next = engine.forward(&mut cache, &expected.greedy[..1], Rows::Last, false).await?.logits;
    worst = worst.max(differ("decode", &next, &expected.logits_next)?);

    // the same again from a cut cache, the second half of the prompt after the first
    let half = expected.ids.len() / 2;
    cache.truncate(half);
    let again = engine.forward(&mut cache, &expected.ids[half..], Rows::Last, false).await?.logits;
    worst = worst.max(differ("prefill after a truncated cache", &again, &expected.logits_last)?);
    Ok(format!("passed (largest difference {worst:.1e})"))
}

/// The answers: transformers', or for another nonlinearity those of the kernels that are linked in.
async fn expected(activation: Activation) -> Result<Expected> {
    let mut expected: Expected = serde_json::from_str(EXPECTED)
        .map_err(|e| Error::file("expected.json", "the self-test's answers", e.to_string()))?;
    if activation != Activation::GeluNew {
        #[allow(clippy::redundant_closure)] // the function alone is not general enough in its lifetimes
        let (engine, _) = CpuEngine::load(config(activation)?, Dtype::Fp32, |stream| read_into(stream))?;
        let mut cache = engine.new_cache();
        expected.logits_last = engine.forward(&mut cache, &expected.ids, Rows::Last, false).await?.logits;
        expected.logits_next = engine.forward(&mut cache, &expected.greedy[..1], Rows::Last, false).await?.logits;
    }
    Ok(expected)
}

/// Largest difference of two rows of logits.
fn differ(what: &str, found: &[f32], expected: &[f32], tolerance: f32) -> Result<f32> {
    let mut worst = (0, 0.0);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = (f - e).abs();
        if difference.is_nan() || difference > worst.1 {
            worst = (i, if difference.is_nan() { f32::INFINITY } else { difference });
        }
    }
    if found.len() != expected.len() {
        return Err(Error::invalid_logits(format!(
            "self-test, {what}: expected {} values, found {}",
            expected.len(),
            found.len()
        )));
    }
    if worst.1 > tolerance {
        let (i, difference) = worst;
        let message = format!(
            "self-test, {what}: value {i}: expected {}, found {} (off by {difference:.1e})",
            expected[i], found[i]
        );
        return Err(Error::invalid_logits(message));
    }
    Ok(worst.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_the_cpu() {
        use Activation::{Gelu, GeluNew, Relu, Silu, Tanh};
        for activation in [GeluNew, Gelu, Relu, Silu, Tanh] {
            // the answers for the others are this engine's own in fp32
            for dtype in Dtype::ALL.into_iter().filter(|&d| d != Dtype::Fp32 || activation == GeluNew) {
                #[allow(clippy::redundant_closure)] // as above
                let engine = CpuEngine::load(config(activation).unwrap(), dtype, |stream| read_into(stream));
                let outcome = pollster::block_on(run(&engine.unwrap().0, dtype)).unwrap();
                println!("{activation:?} in {}: {outcome}", dtype.name());
            }
        }
    }

    #[test]
    fn notices_wrong_numbers() {
        let differ = |found: &[f32], expected: &[f32]| super::differ("x", found, expected, 1e-3);
        assert!(differ(&[1.0, 2.0], &[1.0, 2.1]).unwrap_err().to_string().contains("value 1: expected 2.1, found 2"));
        assert!(differ(&[f32::NAN], &[1.0]).is_err());
        assert!(differ(&[1.0], &[1.0, 1.0]).is_err());
    }
}
