//! A known-answer test: a tiny model whose logits transformers computed, run through every kernel path in use.
//!
//! A GPU driver that miscompiles a shader gives wrong numbers and no error; this is what notices.

use burn::tensor::Device;
use serde::Deserialize;

use crate::engine::{Engine, Reference, Rows};
use crate::error::{Error, Result};
use crate::gpt2::Config;
use crate::tokenizer::TokenId;
use crate::weights::CheckpointStream;

const CONFIG: &str = include_str!("../tests/golden/self_test/config.json");
const CHECKPOINT: &[u8] = include_bytes!("../tests/golden/self_test/model.safetensors");
const EXPECTED: &str = include_str!("../tests/golden/self_test/expected.json");

/// Largest difference of a logit that rounding in f32 explains, with room: GPUs may fuse and reorder.
const TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Expected {
    ids: Vec<TokenId>,
    greedy: Vec<TokenId>,
    /// Logits after `ids`.
    logits_last: Vec<f32>,
    /// Logits after `ids` and `greedy[0]`.
    logits_next: Vec<f32>,
}

/// Runs the test on a device. → one line for people: passed, with the largest difference
///
/// # Errors
/// [`Error::InvalidLogits`] that says what differed and by how much.
pub async fn run(device: &Device) -> Result<String> {
    let config = Config::from_json(CONFIG)?;
    let expected: Expected = serde_json::from_str(EXPECTED)
        .map_err(|e| Error::file("expected.json", "the self-test's answers", e.to_string()))?;
    let mut stream = CheckpointStream::new(config.clone(), device.clone());
    stream.begin_file("self-test", Some(CHECKPOINT.len() as u64))?;
    stream.write(CHECKPOINT)?;
    let engine = Reference::new(config, &mut stream.finish()?, device.clone())?;

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

/// Largest difference of two rows of logits.
fn differ(what: &str, found: &[f32], expected: &[f32]) -> Result<f32> {
    let mut worst = (0, 0.0);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let difference = (f - e).abs();
        if difference.is_nan() || difference > worst.1 {
            worst = (i, if difference.is_nan() { f32::INFINITY } else { difference });
        }
    }
    if found.len() != expected.len() {
        return Err(Error::invalid_logits(format!(
            "self-test, {what}: expected {} logits, found {}",
            expected.len(),
            found.len()
        )));
    }
    if worst.1 > TOLERANCE {
        let (i, difference) = worst;
        let message = format!(
            "self-test, {what}: logit {i}: expected {}, found {} (off by {difference:.1e})",
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
        assert!(pollster::block_on(run(&Device::flex())).unwrap().starts_with("passed"));
    }

    #[test]
    fn notices_wrong_numbers() {
        assert!(
            differ("x", &[1.0, 2.0], &[1.0, 2.1]).unwrap_err().to_string().contains("logit 1: expected 2.1, found 2")
        );
        assert!(differ("x", &[f32::NAN], &[1.0]).is_err());
        assert!(differ("x", &[1.0], &[1.0, 1.0]).is_err());
    }
}
