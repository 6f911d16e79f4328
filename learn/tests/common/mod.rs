//! Files that tests read, and how numbers are held against one another.
#![allow(dead_code)] // each test uses its own part

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use learn::checkpoint::{Checkpoint, read_folder};
use learn::fused::{LaneOptions, Rows};
use learn::layout::Layout;
use learn::optim::{AdamW, Schedule};
use learn::train::{Batch, Learner, Recipe, State};
use safetensors::SafeTensors;
use serde_json::Value;

/// A file that is read in place and is not part of this repository: under `$GPT2_WEB_SHARED`, or `../shared`.
///
/// `None` where there is no such folder at all, which is a reason to fail in CI and to skip elsewhere.
pub fn shared(path: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GPT2_WEB_SHARED").map(|root| match Path::new(&root).is_absolute() {
        true => PathBuf::from(root),
        false => Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(root),
    });
    let must_be_there = named.is_some() || std::env::var_os("CI").is_some();
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    if !root.exists() && !must_be_there {
        eprintln!("SKIPPED: {path} is not here; tests/README.md says where to get it");
        return None;
    }
    let path = root.join(path);
    assert!(path.exists(), "{} is missing; tests/README.md says where to get it", path.display());
    Some(path)
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A list of numbers in a JSON file.
pub fn floats(json: &Value) -> Vec<f64> {
    json.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// Every tensor of a safetensors file as numbers: F32 as they are, I64 as whole numbers.
pub fn tensors(path: &Path) -> HashMap<String, Vec<f64>> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |view: safetensors::tensor::TensorView| match view.dtype() {
        safetensors::Dtype::F32 => {
            view.data().as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
        }
        safetensors::Dtype::I64 => {
            view.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
        }
        other => panic!("{other:?}"),
    };
    file.tensors().into_iter().map(|(name, view)| (name, read(view))).collect()
}

/// A text of so many sentences that a seed decides, as a folder with a held-out file.
pub fn write_text(folder: &Path) {
    let words = ["the", "king", "said", "to", "a", "little", "bird", "and", "went", "home", "again", "old"];
    let mut state = 1u64;
    let mut sentence = || {
        let mut text = String::new();
        for _ in 0..9 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += words[(state >> 33) as usize % words.len()];
            text.push(' ');
        }
        text + ".\n"
    };
    let train: String = (0..600).map(|_| sentence()).collect();
    fs::write(folder.join("tales.txt"), train).expect("tales.txt");
    let held_out: String = (0..60).map(|_| sentence()).collect();
    fs::write(folder.join("tales-valid.txt"), held_out).expect("tales-valid.txt");
}

/// The batches of the shared recipe: rows of 33 tokens, of which the last 32 are labels.
pub struct Batches {
    ids: Vec<u32>,
    labels: Vec<i32>,
    masked: Vec<i32>,
}

pub const ROWS: usize = 4;
pub const TOKENS: usize = 32;

impl Batches {
    pub fn read(folder: &Path) -> Self {
        let tensors = tensors(&folder.join("batches.safetensors"));
        let rows = tensors["ids"].chunks(TOKENS + 1);
        Self {
            ids: rows.clone().flat_map(|row| &row[..TOKENS]).map(|&id| id as u32).collect(),
            labels: rows.flat_map(|row| &row[1..]).map(|&id| id as i32).collect(),
            masked: tensors["labels_masked"].iter().map(|&id| id as i32).collect(),
        }
    }

    /// Some rows of batch `i`.
    pub fn rows(&self, i: usize, is_masked: bool, rows: std::ops::Range<usize>) -> Rows<'_> {
        let range = (i * ROWS + rows.start) * TOKENS..(i * ROWS + rows.end) * TOKENS;
        let labels = if is_masked { &self.masked } else { &self.labels };
        Rows { ids: &self.ids[range.clone()], labels: &labels[range], n_tokens: TOKENS }
    }

    /// Batch `i`.
    pub fn batch(&self, i: usize, is_masked: bool) -> Batch<'_> {
        Batch { rows: self.rows(i, is_masked, 0..ROWS), dropout_seed: None }
    }
}

/// The shared recipe: one lane, everything kept.
pub fn recipe(schedule: Schedule) -> Recipe {
    Recipe {
        adamw: AdamW::default(),
        muon: None,
        schedule,
        max_norm: Some(1.0),
        lanes: LaneOptions { n_lanes: 1, rows_at_once: ROWS, recompute: false },
    }
}

pub fn constant(rate: f64) -> Schedule {
    Schedule { rate, warmup_steps: 0, steps: 1, last_share: 1.0, cooldown_steps: None }
}

pub fn learner(checkpoint: &Checkpoint, recipe: Recipe) -> Learner {
    Learner::new(checkpoint.model.clone(), recipe, State::new(checkpoint.params.clone()))
}

pub fn checkpoint(folder: &Path) -> Checkpoint {
    read_folder(folder).unwrap_or_else(|e| panic!("{e}"))
}

/// Tensors `prefix.*` of a file as one buffer of the layout.
pub fn flat(layout: &Layout, tensors: &HashMap<String, Vec<f64>>, prefix: &str) -> Vec<f64> {
    let mut all = vec![0.0; layout.n_params];
    for slot in &layout.slots {
        let name = format!("{prefix}.transformer.{}", slot.name);
        all[slot.range.clone()].copy_from_slice(tensors.get(&name).unwrap_or_else(|| panic!("no {name}")));
    }
    all
}

/// Panics unless the values of every tensor are within `tolerance`; names the tensor.
pub fn assert_close(layout: &Layout, what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!((found.len(), expected.len()), (layout.n_params, layout.n_params), "{what}");
    for slot in &layout.slots {
        let pairs = found[slot.range.clone()].iter().zip(&expected[slot.range.clone()]);
        let worst = pairs.map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance, "{what}: {}: differs by {worst:.2e}, allowed {tolerance:.0e}", slot.name);
    }
}

/// Panics unless two numbers are within `tolerance`.
pub fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}, allowed {tolerance:.0e}");
}

/// Root mean square of the difference, without the keys' biases: their gradient is nothing but rounding.
pub fn rms_difference(layout: &Layout, found: &[f32], expected: &[f64]) -> f64 {
    let mut keys = Vec::new();
    for block in &layout.blocks {
        let third = block.c_attn.bias.len() / 3;
        keys.push(block.c_attn.bias.start + third..block.c_attn.bias.start + 2 * third);
    }
    let (mut n, mut sum) = (0, 0.0);
    for (i, (&f, e)) in found.iter().zip(expected).enumerate() {
        if !keys.iter().any(|range| range.contains(&i)) {
            (n, sum) = (n + 1, sum + (f64::from(f) - e).powi(2));
        }
    }
    (sum / f64::from(n)).sqrt()
}
