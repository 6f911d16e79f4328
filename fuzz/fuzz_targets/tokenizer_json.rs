//! `tokenizer.json`, followed as it is written and as GPT-2's, and texts through what it makes.
#![no_main]

use gpt2_web::tokenizer::{Tokenizer, TokenizerFiles};
use gpt2_web_fuzz::{brief, check_tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    for config in [&b"{}"[..], br#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#] {
        let mut files = TokenizerFiles::default();
        if brief(files.set("tokenizer.json", json.to_vec())).is_none() {
            return;
        }
        files.set("tokenizer_config.json", config.to_vec()).expect("a file of ours");
        if let Some((tokenizer, warnings)) = brief(Tokenizer::from_files(files)) {
            check_tokenizer(&tokenizer, &warnings);
        }
    }
});
