//! A known-answer test: a tiny model whose logits transformers computed, run through every kind of step (prefill,
//! decode, a cut cache), and the nonlinearity of the model that is about to be loaded.
//!
//! A GPU driver that miscompiles a shader gives wrong numbers and no error; this is what notices.

use std::collections::BTreeMap;

use gpt2_kernels::Dtype;
use half::f16;
use serde::Deserialize;

use super::interface::{Cache, Engine, Rows};
use crate::checkpoint::names::expected_tensors;
use crate::checkpoint::{Activation, Config};
use crate::checkpoint::{CheckpointReader, TensorSink};
use crate::error::{Error, Result};
use crate::token::TokenId;

const CONFIG: &str = include_str!("../../tests/golden/self_test/config.json");
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
    next: TokenId,
    /// By nonlinearity.
    answers: BTreeMap<String, Answer>,
}

#[derive(Deserialize)]
struct Answer {
    /// Logits after `ids`.
    logits_last: Vec<f32>,
    /// Logits after `ids` and `next`.
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
    let checkpoint = checkpoint(&Config::from_json(CONFIG)?);
    stream.begin_file("self-test", Some(checkpoint.len() as u64))?;
    stream.write(&checkpoint)
}

/// The checkpoint of the test's model: a safetensors file in F16 whose numbers are computed from the names of the tensors,
/// since random ones would be the part of a page's download that no compression makes smaller.
/// tests/golden/make_golden.py computes the same ones for transformers.
fn checkpoint(config: &Config) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape) in expected_tensors(config) {
        let begin = data.len();
        let mut state =
            name.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let (mean, step) = match name.as_str() {
            "wte.weight" | "wpe.weight" => (0.0, 11.0),
            name if name.contains("ln_") => (if name.ends_with("weight") { 1.0 } else { 0.0 }, 6.0),
            name if name.ends_with("c_attn.weight") => (0.0, 7.0),
            _ => (0.0, 6.0),
        };
        for _ in 0..shape.iter().product() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = mean + step / 1024.0 * ((state >> 25) as f32 - 64.0);
            data.extend(f16::from_f32(number).to_le_bytes());
        }
        let tensor = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name, tensor);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Runs the test on an engine that holds the test's model. → one line to be shown: passed, with the largest difference
///
/// # Errors
/// [`Error::InvalidLogits`] that says what differed and by how much.
pub async fn run<E: Engine>(engine: &E, dtype: Dtype) -> Result<String> {
    let Expected { ids, next, answers } = serde_json::from_str(EXPECTED).map_err(|e| wrong(e.to_string()))?;
    let activation = engine.config().activation_function.name();
    let answer = answers.get(activation).ok_or_else(|| wrong(format!("none for {activation}")))?;
    let differ = |what: &str, found: &[f32], expected: &[f32]| differ(what, found, expected, tolerance(dtype));
    let mut cache = engine.new_cache();
    let whole = engine.forward(&mut cache, &ids, Rows::Last, false).await?.logits;
    let mut worst = differ("prefill", &whole, &answer.logits_last)?;
    let following = engine.forward(&mut cache, &[next], Rows::Last, false).await?.logits;
    worst = worst.max(differ("decode", &following, &answer.logits_next)?);

    // the same again from a cut cache, the second half of the prompt after the first
    let half = ids.len() / 2;
    cache.truncate(half);
    let again = engine.forward(&mut cache, &ids[half..], Rows::Last, false).await?.logits;
    worst = worst.max(differ("prefill after a truncated cache", &again, &answer.logits_last)?);
    Ok(format!("passed (largest difference {worst:.1e})"))
}

fn wrong(found: String) -> Error {
    Error::file("expected.json", "the self-test's answers", found)
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
    use std::cell::RefCell;

    use super::*;
    use crate::checkpoint::{PackingSink, packing};
    use crate::engine::CpuEngine;

    #[test]
    fn passes_on_the_cpu() {
        for activation in Activation::ALL {
            for dtype in Dtype::ALL {
                #[allow(clippy::redundant_closure)] // the function alone is not general enough in its lifetimes
                let engine = CpuEngine::load(config(activation).unwrap(), dtype, |stream| read_into(stream));
                let outcome = pollster::block_on(run(&engine.unwrap().0, dtype)).unwrap();
                println!("{activation:?} in {}: {outcome}", dtype.name());
            }
        }
    }

    #[test]
    fn the_weights_are_those_that_transformers_ran() {
        let committed = include_bytes!("../../tests/golden/self_test/model.safetensors");
        let packed = |file: &[u8]| {
            let config = Config::from_json(CONFIG).unwrap();
            let layout = packing::layout(&config, Dtype::Fp32).unwrap();
            let image = RefCell::new(vec![0; layout.n_bytes]);
            let sink = PackingSink::new(layout, |offset, bytes: &[u8]| {
                image.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            });
            let mut stream = CheckpointReader::new(config, sink);
            stream.begin_file("model.safetensors", Some(file.len() as u64)).unwrap();
            stream.write(file).unwrap();
            stream.finish().unwrap();
            image.into_inner()
        };
        assert!(packed(&checkpoint(&Config::from_json(CONFIG).unwrap())) == packed(committed));
    }

    #[test]
    fn notices_wrong_numbers() {
        let differ = |found: &[f32], expected: &[f32]| super::differ("x", found, expected, 1e-3);
        assert!(differ(&[1.0, 2.0], &[1.0, 2.1]).unwrap_err().to_string().contains("value 1: expected 2.1, found 2"));
        assert!(differ(&[f32::NAN], &[1.0]).is_err());
        assert!(differ(&[1.0], &[1.0, 1.0]).is_err());
    }
}
