//! What the fuzz targets share.

use gpt2_web::Result;
use gpt2_web::tokenizer::Tokenizer;

/// Passes a reader's answer on. An error quotes little of the file: its text goes to a page, and to its log.
pub fn brief<T>(answer: Result<T>) -> Option<T> {
    let error = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(error.len() <= 1000, "an error of {} bytes: {error}", error.len());
    answer.ok()
}

const TEXTS: [&str; 5] = [
    "",
    "the old king  saw\n\nhe's 42<|endoftext|>",
    "é€😀\u{301}\0\u{ffff}",
    "\u{a0}\r\n\t  !!!!!!",
    "[CLS] \u{2581}the <s> 日本 \u{ff4b}",
];

/// Takes texts there and back, and the way back token by token as well.
pub fn check_tokenizer(tokenizer: &Tokenizer, warnings: &[String]) {
    assert!(warnings.iter().all(|warning| warning.len() <= 1000), "{warnings:?}");
    for text in TEXTS {
        let Some(ids) = brief(tokenizer.encode(text)) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let _ = brief(tokenizer.encode_prompt(text));
        let whole = brief(tokenizer.decode(&ids)).expect("ids of its own");
        let mut stream = tokenizer.stream();
        let mut joined: String = ids.iter().map(|&id| stream.push(id)).collect();
        joined.push_str(&stream.finish());
        assert_eq!(joined, whole);
        for (i, &id) in ids.iter().enumerate() {
            tokenizer.piece_text(id);
            tokenizer.stream_after(&ids[..i]).push(id);
        }
    }
}
