//! `config.json`.
#![no_main]

use gpt2_web::checkpoint::{Config, names};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let Some(config) = brief(Config::from_json(json)) else { return };
    assert_eq!(config.head_dim() * config.n_head, config.n_embd);
    assert!(config.attn_scale(config.n_layer - 1).is_finite());
    assert!(names::n_params(&config) > 0);
    let ids = config.eos_token_ids.iter().chain(&config.bos_token_id);
    assert!(ids.into_iter().all(|&id| (id as usize) < config.vocab_size), "an id beyond the vocabulary");
});
