//! The loop from text to text, with the demo model that the package carries.

mod common;

use std::path::Path;
use std::rc::Rc;

use common::*;
use gpt2_web::engine::{Engine, Reference};
use gpt2_web::generate::GenerateOptions;
use gpt2_web::generate::Scorer;
use gpt2_web::generate::{FinishReason, Session, Step};
use gpt2_web::tokenizer::Tokenizer;
use gpt2_web::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

struct Demo {
    engine: Rc<Reference>,
    tokenizer: Rc<Tokenizer>,
}

/// A finished generation.
#[derive(Debug, PartialEq)]
struct Text {
    text: String,
    ids: Vec<u32>,
    finish: Option<FinishReason>,
}

impl Demo {
    fn load() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo");
        let json = std::fs::read(folder.join("tokenizer.json")).expect("tokenizer.json");
        let tokenizer = Tokenizer::from_tokenizer_json(&json).expect("tokenizer");
        Self { engine: Rc::new(reference(&folder)), tokenizer: Rc::new(tokenizer) }
    }

    fn session(&self) -> Session<Reference> {
        Session::new(self.engine.clone(), self.tokenizer.clone())
    }

    fn options(&self, given: Value) -> GenerateOptions {
        let Value::Object(given) = given else { panic!("an object") };
        let config = self.engine.config();
        GenerateOptions::defaults(config, None).and_then(|d| d.with(&given, config)).expect("options")
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text).expect("encode")
    }

    /// Runs a generation in a fresh session.
    fn write(&self, prompt: &str, given: Value) -> Result<Text> {
        let mut session = self.session();
        session.append(&self.encode(prompt));
        self.go_on(&mut session, given)
    }

    fn go_on(&self, session: &mut Session<Reference>, given: Value) -> Result<Text> {
        session.begin(self.options(given), 0)?;
        let mut text = Text { text: String::new(), ids: Vec::new(), finish: None };
        loop {
            match block_on(session.step(32))? {
                Step::Prefill { n_done, n_total } => assert!(n_done > 0 && n_done < n_total),
                Step::Full => return Ok(text),
                Step::Token(chunk, finish) => {
                    text.text.push_str(&chunk.text);
                    text.ids.push(chunk.token_id);
                    if finish.is_some() {
                        return Ok(Text { finish, ..text });
                    }
                }
            }
        }
    }
}

const LONG: &str = "Once upon a time there was a little girl who lived with her mother in a small house at the edge of a great \
    forest, and every day she went out to gather wood, and flowers, and all the berries that she could find.";

#[test]
fn text_is_what_its_ids_decode_to() {
    let demo = Demo::load();
    let text = demo.write("The old king", json!({ "max_new_tokens": 40, "eos_token_id": null })).expect("text");
    assert_eq!((text.ids.len(), text.finish), (40, Some(FinishReason::Length)));
    assert_eq!(text.text, demo.tokenizer.decode(&text.ids).expect("decode"));
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_another() {
    let demo = Demo::load();
    let write = |seed: u64| {
        demo.write("The old king", json!({ "seed": seed, "max_new_tokens": 30, "eos_token_id": null })).expect("text")
    };
    assert_eq!(write(7), write(7));
    assert_ne!(write(7).text, write(8).text);
}

#[test]
fn a_reused_prefix_changes_nothing() {
    let demo = Demo::load();
    let given = json!({ "max_new_tokens": 12, "eos_token_id": null });
    let fresh = demo.write(LONG, given.clone()).expect("text");
    let mut session = demo.session();
    session.append(&demo.encode(&LONG[..100]));
    demo.go_on(&mut session, given.clone()).expect("text");
    session.replace(demo.encode(LONG), true);
    assert_eq!(demo.go_on(&mut session, given.clone()).expect("text"), fresh);
    for reuse in [true, false] {
        session.replace(demo.encode(LONG), reuse);
        session.begin(demo.options(given.clone()), 0).expect("begin");
        let first = block_on(session.step(32)).expect("step");
        assert_eq!(matches!(first, Step::Prefill { .. }), !reuse, "what is in the cache is not run again");
        session.replace(demo.encode(LONG), reuse);
        assert_eq!(demo.go_on(&mut session, given.clone()).expect("text"), fresh);
    }
}

#[test]
fn rewound_and_cloned_texts_go_on_as_fresh_ones() {
    let demo = Demo::load();
    let given = json!({ "max_new_tokens": 10, "eos_token_id": null });
    let mut session = demo.session();
    session.append(&demo.encode(LONG));
    let first = demo.go_on(&mut session, given.clone()).expect("text");
    let mut branch = session.clone();
    branch.rewind(10).expect("rewind");
    assert_eq!(demo.go_on(&mut branch, given.clone()).expect("text"), first);
    // the original goes on from where it was
    let rest = demo.go_on(&mut session, given).expect("text");
    let both = demo.write(LONG, json!({ "max_new_tokens": 20, "eos_token_id": null })).expect("text");
    assert_eq!([first.ids, rest.ids].concat(), both.ids);
    assert_eq!(session.rewind(10_000).expect_err("too many").code(), "invalid_option");
}

#[test]
fn stop_strings_span_tokens_and_are_left_out() {
    let demo = Demo::load();
    let free = demo.write(LONG, json!({ "max_new_tokens": 30, "eos_token_id": null })).expect("text").text;
    // from the middle of one word into the next, so that no token boundary helps
    let at = free.char_indices().filter(|(_, c)| *c == ' ').nth(4).expect("five words").0;
    let stop = &free[at - 1..at + 3];
    let found =
        demo.write(LONG, json!({ "max_new_tokens": 30, "eos_token_id": null, "stop": [stop, "never"] })).expect("text");
    assert_eq!(
        (found.text.as_str(), found.finish),
        (&free[..free.find(stop).expect("there")], Some(FinishReason::Stop))
    );
}

#[test]
fn end_of_text_ends_and_is_not_shown() {
    let demo = Demo::load();
    let free = demo.write("The old king", json!({ "max_new_tokens": 8, "eos_token_id": null })).expect("text");
    let given = json!({ "max_new_tokens": 8, "eos_token_id": [free.ids[4]] });
    let found = demo.write("The old king", given).expect("text");
    let n = free.ids.iter().position(|id| *id == free.ids[4]).expect("there");
    assert_eq!((&found.ids[..], found.finish), (&free.ids[..=n], Some(FinishReason::Stop)));
    assert_eq!(found.text, demo.tokenizer.decode(&free.ids[..n]).expect("decode"));
}

#[test]
fn the_context_window_stops_slides_or_refuses() {
    let demo = Demo::load();
    let n_ctx = demo.engine.config().n_positions;
    let ids: Vec<u32> = demo.encode(LONG).into_iter().cycle().take(n_ctx - 5).collect();
    let run = |ids: &[u32], overflow: &str| {
        let mut session = demo.session();
        session.append(ids);
        let given = json!({ "max_new_tokens": 20, "eos_token_id": null, "context_overflow": overflow });
        demo.go_on(&mut session, given)
    };
    let ended = |text: Text| (text.ids.len(), text.finish);
    assert_eq!(ended(run(&ids, "stop").expect("stop")), (5, Some(FinishReason::Length)));
    assert_eq!(ended(run(&ids, "slide").expect("slide")), (20, Some(FinishReason::Length)));
    assert!(matches!(run(&ids, "error"), Err(Error::ContextWindow { .. })));
    let full: Vec<u32> = ids.iter().copied().cycle().take(n_ctx).collect();
    assert_eq!(ended(run(&full, "stop").expect("full")), (0, None));
    let long: Vec<u32> = ids.iter().copied().cycle().take(n_ctx + 50).collect();
    assert!(matches!(run(&long, "stop"), Err(Error::ContextWindow { .. })));
    // what slides goes on as the newer half of the window alone would
    let newer = run(&long[long.len() - n_ctx / 2..], "stop").expect("fresh");
    assert_eq!(run(&long, "slide").expect("slide").ids, newer.ids);
}

#[test]
fn everything_since_a_slide_can_be_taken_back() {
    let demo = Demo::load();
    let n_ctx = demo.engine.config().n_positions;
    let mut session = demo.session();
    session.append(&demo.encode(LONG).into_iter().cycle().take(n_ctx + 10).collect::<Vec<_>>());
    let given = json!({ "max_new_tokens": 5, "eos_token_id": null, "context_overflow": "slide" });
    demo.go_on(&mut session, given.clone()).expect("slides");
    let n_window = session.context_usage();
    assert!(n_window < n_ctx);
    session.rewind(n_window).expect("rewind");
    assert_eq!(session.context_usage(), n_ctx / 2, "the older text is in the window again");
    assert_eq!(demo.go_on(&mut session, given).expect("goes on").ids.len(), 5);
}

#[test]
fn an_empty_prompt_starts_from_the_beginning_of_text() {
    let demo = Demo::load();
    let empty = demo.write("", json!({ "max_new_tokens": 5, "eos_token_id": null })).expect("text");
    let bos = demo.write("<|endoftext|>", json!({ "max_new_tokens": 5, "eos_token_id": null })).expect("text");
    assert_eq!(empty, bos);
}

#[test]
fn logprobs_are_those_of_the_score() {
    let demo = Demo::load();
    let mut session = demo.session();
    session.append(&demo.encode("The old king"));
    session
        .begin(demo.options(json!({ "max_new_tokens": 12, "top_logprobs": 3, "eos_token_id": null, "seed": 3 })), 0)
        .expect("begin");
    let mut logprobs = Vec::new();
    loop {
        let Step::Token(chunk, finish) = block_on(session.step(32)).expect("step") else { panic!("a short prompt") };
        let top = chunk.top_logprobs.expect("top");
        assert!(top.len() == 3 && top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
        logprobs.push(chunk.logprob.expect("logprob"));
        if finish.is_some() {
            break;
        }
    }
    let mut scorer = Scorer::new(demo.engine.clone(), demo.tokenizer.clone(), session.ids().to_vec()).expect("scorer");
    while let (n_done, n_total) = block_on(scorer.step(32)).expect("step")
        && n_done < n_total
    {}
    let score = scorer.finish();
    let tail = &score.tokens[score.tokens.len() - 12..];
    assert_close("logprobs", &tail.iter().map(|t| t.logprob.expect("predicted")).collect::<Vec<_>>(), &logprobs, 1e-4);
    assert!(score.tokens[0].logprob.is_none() && (score.perplexity - score.nll.exp()).abs() < 1e-9);
    for token in &score.tokens[1..] {
        assert_eq!(token.rank == Some(0), token.top_logprobs[0].token_id == token.id);
    }
}

#[test]
fn a_text_longer_than_the_window_is_scored_whole() {
    let demo = Demo::load();
    let ids: Vec<u32> = demo.encode(LONG).into_iter().cycle().take(600).collect();
    let mut scorer = Scorer::new(demo.engine.clone(), demo.tokenizer.clone(), ids.clone()).expect("scorer");
    let mut n_before = 0;
    loop {
        let (n_done, n_total) = block_on(scorer.step(32)).expect("step");
        assert!(n_done > n_before && n_total == 600);
        n_before = n_done;
        if n_done == n_total {
            break;
        }
    }
    let score = scorer.finish();
    assert_eq!(score.tokens.iter().map(|t| t.id).collect::<Vec<_>>(), ids);
    assert!(score.tokens[1..].iter().all(|t| t.logprob.is_some_and(|l| l.is_finite() && l <= 0.0)));
}

#[test]
fn interrupting_keeps_the_text_and_ends_the_run() {
    let demo = Demo::load();
    let mut session = demo.session();
    session.append(&demo.encode("The old king"));
    session.begin(demo.options(json!({ "max_new_tokens": 30, "eos_token_id": null })), 0).expect("begin");
    for _ in 0..3 {
        block_on(session.step(32)).expect("step");
    }
    session.interrupt();
    assert_eq!(session.ids().len(), demo.encode("The old king").len() + 3);
    assert_eq!(block_on(session.step(32)).expect_err("ended").code(), "invalid_state");
}
