//! `model.safetensors.index.json`.
#![no_main]

use gpt2_web::checkpoint::index;
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let Some(shards) = brief(index::shard_names("model.safetensors.index.json", json)) else { return };
    assert!(!shards.is_empty());
    assert!(shards.is_sorted_by(|a, b| a < b), "a shard twice, or out of order");
    // resolved against the checkpoint's address, a name must stay in its folder
    assert!(shards.iter().all(|name| !name.contains(['/', '\\', ':', '?', '#', '%']) && !name.starts_with('.')));
});
