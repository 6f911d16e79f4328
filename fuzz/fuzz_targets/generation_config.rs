//! `generation_config.json`: the defaults that it gives must be ones that a sampler can run with.
#![no_main]

use gpt2_web::checkpoint::Config;
use gpt2_web::generate::GenerateOptions;
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let Ok(config) = Config::from_json(r#"{"model_type":"gpt2","vocab_size":300}"#) else { unreachable!() };
    let Some(options) = brief(GenerateOptions::defaults(&config, Some(json))) else { return };
    assert!(options.max_new_tokens >= 1);
    assert!(options.eos_token_id.iter().all(|&id| (id as usize) < config.vocab_size));
    let valid = options.sampling.validate();
    assert!(valid.is_ok(), "{valid:?}");
    // a recipe holds them as JSON
    assert!(serde_json::to_string(&options).is_ok());
});
