//! Golden data: a folder with a checkpoint in the hub's layout and what transformers computes from it.
//!
//! What needs the reference is in `reference.rs`; the rest works without Burn.
#![allow(dead_code, unused_imports)] // each test uses its own part

pub mod adapters;
pub mod checks;
mod folder;
pub mod oracle;
mod places;
#[cfg(feature = "burn")]
mod reference;
mod texts;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gpt2_web::checkpoint::{CheckpointReader, Config, Header, StoredDtype, TensorSink, WEIGHT_FILES, index};
use gpt2_web::engine::cpu::Linked;
use gpt2_web::engine::{CpuEngine, Engine, Rows};
use pollster::block_on;
use serde_json::Value;

pub use folder::{LoadedModel, load_folder};
pub use places::{golden, shared};
#[cfg(feature = "burn")]
pub use reference::{reference, tensors};
pub use texts::{Demo, LONG};

/// The folders in `tests/golden/models`, one for each kind of configuration and checkpoint.
pub const MODELS: [&str; 14] = [
    "base",
    "untied",
    "f16",
    "bf16",
    "gelu",
    "relu",
    "silu",
    "quick_gelu",
    "tanh",
    "inverse_layer",
    "unscaled",
    "odd",
    "sharded",
    "one",
];

/// Reads a whole text file.
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads a JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A list of token ids in a JSON file.
pub fn ids(json: &Value) -> Vec<u32> {
    json.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// A list of numbers in a JSON file.
pub fn floats(json: &Value) -> Vec<f32> {
    json.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}

/// The configuration in `folder`.
pub fn config(folder: &Path) -> Config {
    Config::from_json(&text(&folder.join("config.json"))).expect("config")
}

/// Writes the checkpoint in `folder` to a stream, in pieces of `piece` bytes.
pub fn read_into<S: TensorSink>(stream: &mut CheckpointReader<S>, folder: &Path, piece: usize) -> gpt2_web::Result<()> {
    let found = WEIGHT_FILES.into_iter().find(|name| folder.join(name).exists()).expect("weights");
    let files = match found.ends_with(".json") {
        true => index::shard_names(found, &text(&folder.join(found)))?,
        false => vec![found.to_string()],
    };
    for file in files {
        let bytes = fs::read(folder.join(&file)).expect("checkpoint");
        stream.begin_file(&file, Some(bytes.len() as u64))?;
        for piece in bytes.chunks(piece) {
            stream.write(piece)?;
        }
    }
    Ok(())
}

/// The CPU engine with the checkpoint in `folder`.
pub fn cpu(folder: &Path, dtype: gpt2_kernels::Dtype) -> CpuEngine<Linked> {
    CpuEngine::load(config(folder), dtype, |stream| read_into(stream, folder, 4099)).expect("engine").0
}

/// The F32 tensors of a safetensors file: shape and values by name.
pub fn expected(path: &Path) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let n_json = Header::json_bytes(*bytes.first_chunk().expect("8 bytes"), "expected", None).expect("length");
    let body = &bytes[8 + n_json..];
    let header = Header::from_json(&bytes[8..8 + n_json], "expected", Some(bytes.len() as u64)).expect("header");
    let read = |t: gpt2_web::checkpoint::TensorInfo| {
        let mut values = Vec::new();
        StoredDtype::F32.extend_f32(&mut values, &body[t.begin as usize..t.end as usize]);
        (t.name, (t.shape, values))
    };
    header.tensors.into_iter().map(read).collect()
}

/// Panics unless all values are within `tolerance`; names the worst.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}: value {i}: expected {e}, found {f}, tolerance {tolerance}");
    }
}

/// Logits [T, V] of every token of a prompt.
pub fn all_logits<E: Engine>(engine: &E, ids: &[u32]) -> Vec<f32> {
    block_on(engine.forward(&mut engine.new_cache(), ids, Rows::All, false)).expect("forward").logits
}

/// Root mean square of the difference, over that of the expected values about their mean.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mean = expected.iter().map(|&x| f64::from(x)).sum::<f64>() / expected.len() as f64;
    let squares = |f: &dyn Fn(usize) -> f64| (0..expected.len()).map(|i| f(i) * f(i)).sum::<f64>();
    let error = squares(&|i| f64::from(found[i]) - f64::from(expected[i]));
    (error / squares(&|i| f64::from(expected[i]) - mean)).sqrt()
}

/// The folder of the small trained model that the package carries.
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo")
}

/// The demo model's folder, and more tokens than one pass takes and than one page of the CPU's cache holds.
pub fn demo_prompt() -> (PathBuf, Vec<u32>) {
    let folder = demo();
    let config = config(&folder);
    let ids = (0..config.n_positions.min(200) as u32).map(|i| i * 7919 % config.vocab_size as u32).collect();
    (folder, ids)
}
