//! `tokenizer.json`, and texts through what it makes.
#![no_main]

use gpt2_web::tokenizer::Tokenizer;
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 4] =
    ["", "the old king  saw\n\nhe's 42<|endoftext|>", "é€😀\u{301}\0\u{ffff}", "\u{a0}\r\n\t  !!!!!!"];

fuzz_target!(|json: &[u8]| {
    let Some(tokenizer) = brief(Tokenizer::from_tokenizer_json(json)) else { return };
    for text in TEXTS {
        let Some(ids) = brief(tokenizer.encode(text)) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let _ = brief(tokenizer.decode(&ids));
    }
});
