//! LoRA adapters for an engine's tests: PEFT's, and random ones of any rank.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gpt2_web::adapter::{Adapter, CONFIG_FILE, LowRank, MODULES, WEIGHTS_FILE};
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::{Engine, Rows};
use pollster::block_on;

use super::{config, ids, text};

/// The one in `folder`, for the model in another.
pub fn adapter(model: &Path, folder: &Path) -> gpt2_web::Result<Adapter> {
    let weights = fs::read(folder.join(WEIGHTS_FILE)).expect("weights");
    Adapter::from_peft(&config(model), &text(&folder.join(CONFIG_FILE)), &weights)
}

/// One of this rank for each of these modules (by their places in [`MODULES`]) in each block, different in every number.
pub fn random_adapter(model: &Config, modules: &[usize], rank: usize, seed: u64) -> Adapter {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut part = |layer: usize, module: usize| {
        let op = MODULES[module].1;
        let (n_cols, n_rows) = gpt2_kernels::adapter::Adapter::shape(&model.dims(), op);
        let mut numbers = |n: usize, size: f32| (0..n).map(|_| uniform() * size).collect();
        let a = numbers(rank * n_cols, 1.0 / (n_cols as f32).sqrt());
        LowRank { layer, op, rank, a, b: numbers(n_rows * rank, 1.0 / (rank as f32).sqrt()), scale: 0.5 }
    };
    let parts = (0..model.n_layer).flat_map(|layer| modules.iter().map(move |&module| (layer, module)));
    Adapter { parts: parts.map(|(layer, module)| part(layer, module)).collect() }
}

/// The prompt of PEFT's logits: `prompt` in batches.safetensors, [16] i64.
pub fn prompt(learn: &Path) -> Vec<u32> {
    let bytes = fs::read(learn.join("batches.safetensors")).expect("batches");
    let (prefix, rest) = bytes.split_first_chunk::<8>().expect("a length");
    let (json, data) = rest.split_at(u64::from_le_bytes(*prefix) as usize);
    let header: serde_json::Value = serde_json::from_slice(json).expect("a header");
    let offsets = ids(&header["prompt"]["data_offsets"]);
    let numbers = &data[offsets[0] as usize..offsets[1] as usize];
    numbers.as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect()
}

/// Gives an adapter to the engine. → its number
pub fn add<E: Engine>(engine: &E, adapters: &[(&Adapter, f32)]) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    block_on(engine.add_adapter(number, adapters)).expect("room");
    number
}

/// Logits of all tokens of a text.
pub fn logits<E: Engine>(engine: &E, adapter: Option<usize>, ids: &[u32]) -> Vec<f32> {
    block_on(engine.forward(&mut engine.new_cache_with(adapter), ids, Rows::All, false)).expect("forward").logits
}
