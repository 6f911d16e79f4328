//! `vocab.json` and `merges.txt`, one after the other with a NUL between.
#![no_main]

use gpt2_web::tokenizer::{END_OF_TEXT, Tokenizer};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 3] = ["abc", "a bc  é€\n'll 12", "aaaaaaaa"];

fuzz_target!(|files: &str| {
    let (vocab, merges) = files.split_once('\0').unwrap_or((files, ""));
    let Some(tokenizer) = brief(Tokenizer::from_vocab_and_merges(vocab, merges)) else { return };
    for text in TEXTS {
        let Some(ids) = brief(tokenizer.encode(text)) else { continue };
        // a vocabulary with holes may have to share an id with the end of text, which no decoded text shows
        if ids.iter().any(|&id| tokenizer.is_special(id)) {
            continue;
        }
        // byte-level BPE loses nothing; what the vocabulary cannot say is an error
        let back = brief(tokenizer.decode(&ids));
        assert!(back.as_deref() == Some(text), "{text:?} became {ids:?}, which is {back:?}");
    }
    let _ = brief(tokenizer.encode(END_OF_TEXT));
});
