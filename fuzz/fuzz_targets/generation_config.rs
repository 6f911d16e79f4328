//! `generation_config.json`: the defaults that it gives must be ones that a sampler can run with.
#![no_main]

use gpt2_web::checkpoint::Config;
use gpt2_web::generate::GenerateOptions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let Ok(config) = Config::from_json(r#"{"model_type":"gpt2","vocab_size":300}"#) else { unreachable!() };
    let (options, warnings) = GenerateOptions::defaults(&config, Some(json));
    // a hostile file must not fill a page with its words
    assert!(warnings.iter().all(|warning| warning.starts_with("generation_config.json") && warning.len() < 4096));
    assert!(options.max_new_tokens >= 1);
    assert!(options.eos_token_id.iter().all(|&id| (id as usize) < config.vocab_size));
    let valid = options.sampling.validate();
    assert!(valid.is_ok(), "{valid:?}");
    // a recipe holds them as JSON
    assert!(serde_json::to_string(&options).is_ok());
});
