//! The small files around a vocabulary, one after the other with a NUL between: tokenizer_config.json,
//! special_tokens_map.json, added_tokens.json, vocab.txt.
#![no_main]

use gpt2_web::tokenizer::{Tokenizer, TokenizerFiles};
use gpt2_web_fuzz::{brief, check_tokenizer};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 4] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"];

fuzz_target!(|bytes: &[u8]| {
    let mut files = TokenizerFiles::default();
    for (name, part) in NAMES.into_iter().zip(bytes.splitn(NAMES.len(), |&byte| byte == 0)) {
        if !part.is_empty() {
            let _ = brief(files.set(name, part.to_vec()));
        }
    }
    if files.vocab_txt.is_none() {
        files.set("vocab.json", br#"{"a": 0, "b": 1, "ab": 2}"#.to_vec()).expect("a file of ours");
        files.set("merges.txt", b"a b\n".to_vec()).expect("a file of ours");
    }
    if let Some((tokenizer, warnings)) = brief(Tokenizer::from_files(files)) {
        check_tokenizer(&tokenizer, &warnings);
    }
});
