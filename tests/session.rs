//! The loop from text to text, with the demo model that the package carries: every test on the CPU engine, in fp32 and in
//! q8, and with the feature `burn` on the reference.

mod common;

use std::cell::Cell;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::{Engine, Output, Rows};
use gpt2_web::generate::{FinishReason, Scorer, Session, Step};
use gpt2_web::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

/// A finished generation.
#[derive(Debug, PartialEq)]
struct Text {
    text: String,
    ids: Vec<u32>,
    finish: FinishReason,
}

/// Generations that are run to their end.
trait Writes<E: Engine> {
    /// In a fresh session.
    fn write(&self, prompt: &str, given: Value) -> Result<Text>;
    fn write_after(&self, prompt: &[u32], given: Value) -> Result<Text>;
    fn go_on(&self, session: &mut Session<E>, given: Value) -> Result<Text>;
}

impl<E: Engine> Writes<E> for Demo<E> {
    fn write(&self, prompt: &str, given: Value) -> Result<Text> {
        self.write_after(&self.encode(prompt), given)
    }

    fn write_after(&self, prompt: &[u32], given: Value) -> Result<Text> {
        let mut session = self.session();
        session.append(prompt);
        self.go_on(&mut session, given)
    }

    fn go_on(&self, session: &mut Session<E>, given: Value) -> Result<Text> {
        session.begin(self.options(given), 0)?;
        finish(session)
    }
}

/// Runs a generation to its end, and holds its progress to what it promises.
fn finish<E: Engine>(session: &mut Session<E>) -> Result<Text> {
    let (mut text, mut ids, mut before) = (String::new(), Vec::new(), None);
    loop {
        match block_on(session.step(32))? {
            Step::Prefill { n_done, n_total } => {
                assert!(ids.is_empty(), "a prompt's progress after its first token");
                let (n_before, n_total_before) = before.unwrap_or((0, n_total));
                assert!(n_done > n_before && n_done < n_total && n_total == n_total_before, "{n_done} of {n_total}");
                before = Some((n_done, n_total));
            }
            Step::Refill => assert!(!ids.is_empty(), "the prompt is not run again"),
            Step::Token(chunk, finish) => {
                text.push_str(&chunk.text);
                ids.push(chunk.token_id);
                if let Some(finish) = finish {
                    return Ok(Text { text, ids, finish });
                }
            }
        }
    }
}

/// Each test on each engine.
macro_rules! on_every_engine {
    ($($test:ident)*) => {
        mod cpu_fp32 {
            $(#[test] fn $test() { super::$test(&super::Demo::new(super::cpu(&super::demo(), super::Dtype::Fp32))) })*
        }
        mod cpu_q8 {
            $(#[test] fn $test() { super::$test(&super::Demo::new(super::cpu(&super::demo(), super::Dtype::Q8))) })*
        }
        #[cfg(feature = "burn")]
        mod reference {
            $(#[test] fn $test() { super::$test(&super::Demo::new(super::reference(&super::demo()))) })*
        }
    };
}

on_every_engine! {
    text_is_what_its_ids_decode_to
    the_same_seed_gives_the_same_text_and_another_another
    a_reused_prefix_changes_nothing
    rewound_and_cloned_texts_go_on_as_fresh_ones
    stop_strings_span_tokens_and_are_left_out
    end_of_text_ends_and_is_not_shown
    the_whole_window_is_used
    a_text_slides_through_window_after_window
    a_prompt_longer_than_the_window_slides_to_its_newer_half
    progress_counts_what_has_to_be_run
    everything_since_a_slide_can_be_taken_back
    an_empty_prompt_starts_from_the_beginning_of_text
    logprobs_are_those_of_the_score
    a_text_longer_than_the_window_is_scored_whole
    interrupting_keeps_the_text_and_ends_the_run
    a_clone_in_the_midst_of_a_generation_is_a_text_of_its_own
    special_tokens_are_seen_by_stop_strings_and_not_shown
    tokens_can_be_forbidden_forced_and_put_off
    a_recipe_gives_the_same_text
}

fn text_is_what_its_ids_decode_to(demo: &Demo<impl Engine>) {
    let text = demo.write("The old king", json!({ "max_new_tokens": 40, "eos_token_id": null })).expect("text");
    assert_eq!((text.ids.len(), text.finish), (40, FinishReason::Length));
    assert_eq!(text.text, demo.tokenizer.decode(&text.ids).expect("decode"));
}

fn the_same_seed_gives_the_same_text_and_another_another(demo: &Demo<impl Engine>) {
    let write = |seed: u64| {
        demo.write("The old king", json!({ "seed": seed, "max_new_tokens": 30, "eos_token_id": null })).expect("text")
    };
    assert_eq!(write(7), write(7));
    assert_ne!(write(7).text, write(8).text);
}

fn a_reused_prefix_changes_nothing(demo: &Demo<impl Engine>) {
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

fn rewound_and_cloned_texts_go_on_as_fresh_ones(demo: &Demo<impl Engine>) {
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

fn stop_strings_span_tokens_and_are_left_out(demo: &Demo<impl Engine>) {
    let free = demo.write(LONG, json!({ "max_new_tokens": 30, "eos_token_id": null })).expect("text").text;
    // from the middle of one word into the next, so that no token boundary helps
    let at = free.char_indices().filter(|(_, c)| *c == ' ').nth(4).expect("five words").0;
    let stop = &free[at - 1..at + 3];
    let found =
        demo.write(LONG, json!({ "max_new_tokens": 30, "eos_token_id": null, "stop": [stop, "never"] })).expect("text");
    assert_eq!((found.text.as_str(), found.finish), (&free[..free.find(stop).expect("there")], FinishReason::Stop));
}

fn end_of_text_ends_and_is_not_shown(demo: &Demo<impl Engine>) {
    let free = demo.write("The old king", json!({ "max_new_tokens": 8, "eos_token_id": null })).expect("text");
    let given = json!({ "max_new_tokens": 8, "eos_token_id": [free.ids[4]] });
    let found = demo.write("The old king", given).expect("text");
    let n = free.ids.iter().position(|id| *id == free.ids[4]).expect("there");
    assert_eq!((&found.ids[..], found.finish), (&free.ids[..=n], FinishReason::Stop));
    assert_eq!(found.text, demo.tokenizer.decode(&free.ids[..n]).expect("decode"));
}

fn the_whole_window_is_used(demo: &Demo<impl Engine>) {
    let n_ctx = demo.n_ctx();
    let run = |n_prompt: usize, given: Value| {
        let mut given = given;
        given["eos_token_id"] = Value::Null;
        demo.write_after(&demo.prompt(n_prompt), given)
    };
    for (n_left, n_new) in [(0, 1), (1, 2), (5, 6)] {
        let text = run(n_ctx - n_left, json!({ "max_new_tokens": 20 })).expect("fits");
        assert_eq!((text.ids.len(), text.finish), (n_new, FinishReason::Length), "{n_left} places are left");
        let given = |n: usize| json!({ "max_new_tokens": n, "context_overflow": "error" });
        assert_eq!(run(n_ctx - n_left, given(n_new)).expect("fits").ids, text.ids);
        assert!(matches!(run(n_ctx - n_left, given(n_new + 1)), Err(Error::ContextWindow { .. })));
    }
    for overflow in ["stop", "error"] {
        let outcome = run(n_ctx + 1, json!({ "max_new_tokens": 1, "context_overflow": overflow }));
        assert!(matches!(outcome, Err(Error::ContextWindow { .. })), "{overflow}: {outcome:?}");
    }
    // the last token has no place in the window: the text goes on where it is taken back
    let mut session = demo.session();
    session.append(&demo.prompt(n_ctx - 1));
    let given = json!({ "max_new_tokens": 9, "eos_token_id": null });
    let first = demo.go_on(&mut session, given.clone()).expect("two");
    assert_eq!(session.context_usage(), n_ctx + 1);
    assert!(matches!(demo.go_on(&mut session, given.clone()), Err(Error::ContextWindow { .. })));
    session.rewind(1).expect("rewind");
    assert_eq!(demo.go_on(&mut session, given).expect("one").ids, first.ids[1..]);
}

/// A slide goes on where a full window ends, without a token skipped or told twice: each window writes what a fresh
/// session writes after the same ids.
fn a_text_slides_through_window_after_window(demo: &Demo<impl Engine>) {
    let n_ctx = demo.n_ctx();
    let n_new = 2 * n_ctx;
    let mut expected = demo.prompt(n_ctx - 10);
    let mut window = expected.clone();
    while expected.len() < n_ctx - 10 + n_new {
        let given = json!({ "max_new_tokens": n_new, "eos_token_id": null });
        let text = demo.write_after(&window, given).expect("a window");
        assert_eq!(text.ids.len(), n_ctx + 1 - window.len());
        expected.extend(text.ids);
        window = expected[expected.len() - n_ctx / 2..].to_vec();
    }
    let mut session = demo.session();
    session.append(&demo.prompt(n_ctx - 10));
    let given = json!({ "max_new_tokens": n_new, "eos_token_id": null, "context_overflow": "slide" });
    let text = demo.go_on(&mut session, given).expect("slides");
    assert_eq!(text.ids, expected[n_ctx - 10..][..n_new]);
    assert_eq!(text.text, demo.tokenizer.decode(&text.ids).expect("decode"));
    assert!(session.context_usage() <= n_ctx + 1);
    assert_eq!(session.ids(), &expected[..n_ctx - 10 + n_new]);
}

fn a_prompt_longer_than_the_window_slides_to_its_newer_half(demo: &Demo<impl Engine>) {
    let n_ctx = demo.n_ctx();
    let long = demo.prompt(n_ctx + 50);
    let given = |overflow: &str| json!({ "max_new_tokens": 20, "eos_token_id": null, "context_overflow": overflow });
    let newer = demo.write_after(&long[long.len() - n_ctx / 2..], given("stop")).expect("fresh");
    assert_eq!(demo.write_after(&long, given("slide")).expect("slide").ids, newer.ids);
}

/// `finish` holds each of these to a progress that begins above 0, never goes back and is of as many as have to be run.
fn progress_counts_what_has_to_be_run(demo: &Demo<impl Engine>) {
    let n_ctx = demo.n_ctx();
    let given = json!({ "max_new_tokens": 12, "eos_token_id": null, "context_overflow": "slide" });
    let mut session = demo.session();
    for (n_prompt, reuse) in
        [(n_ctx - 4, true), (n_ctx, true), (n_ctx + 1, true), (n_ctx + 70, true), (100, true), (n_ctx - 2, false)]
    {
        let fresh = demo.write_after(&demo.prompt(n_prompt), given.clone()).expect("fresh");
        session.replace(demo.prompt(n_prompt), reuse);
        assert_eq!(demo.go_on(&mut session, given.clone()).expect("text"), fresh, "{n_prompt} {reuse}");
        // and on, in the same text
        demo.go_on(&mut session, given.clone()).expect("more");
    }
    // what a lost device takes with it is run again, and the progress waits
    session.replace(demo.prompt(n_ctx), false);
    session.begin(demo.options(given), 0).expect("begin");
    let mut told = Vec::new();
    for i in 0..40 {
        if i == 3 {
            session.move_to(demo.engine.clone(), demo.tokenizer.clone());
        }
        match block_on(session.step(32)).expect("step") {
            Step::Prefill { n_done, n_total } => told.push((n_done, n_total)),
            _ => break,
        }
    }
    assert!(
        told.len() > n_ctx / 32 && told.is_sorted() && told.iter().all(|&(_, n_total)| n_total == n_ctx),
        "{told:?}"
    );
}

fn everything_since_a_slide_can_be_taken_back(demo: &Demo<impl Engine>) {
    let n_ctx = demo.n_ctx();
    let mut session = demo.session();
    session.append(&demo.prompt(n_ctx + 10));
    let given = json!({ "max_new_tokens": 5, "eos_token_id": null, "context_overflow": "slide" });
    demo.go_on(&mut session, given.clone()).expect("slides");
    let n_window = session.context_usage();
    assert!(n_window < n_ctx);
    session.rewind(n_window).expect("rewind");
    assert_eq!(session.context_usage(), n_ctx / 2, "the older text is in the window again");
    assert_eq!(demo.go_on(&mut session, given).expect("goes on").ids.len(), 5);
}

fn an_empty_prompt_starts_from_the_beginning_of_text(demo: &Demo<impl Engine>) {
    let empty = demo.write("", json!({ "max_new_tokens": 5, "eos_token_id": null })).expect("text");
    let bos = demo.write("<|endoftext|>", json!({ "max_new_tokens": 5, "eos_token_id": null })).expect("text");
    assert_eq!(empty, bos);
}

fn logprobs_are_those_of_the_score(demo: &Demo<impl Engine>) {
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

fn a_text_longer_than_the_window_is_scored_whole(demo: &Demo<impl Engine>) {
    let ids = demo.prompt(600);
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

fn interrupting_keeps_the_text_and_ends_the_run(demo: &Demo<impl Engine>) {
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

/// An engine that says every other time that it has been told to stop.
struct Interrupted<E> {
    engine: E,
    n_calls: Cell<usize>,
}

impl<E: Engine> Engine for Interrupted<E> {
    type Cache = E::Cache;
    type Pending = std::convert::Infallible;

    fn config(&self) -> &Config {
        self.engine.config()
    }

    fn new_cache(&self) -> E::Cache {
        self.engine.new_cache()
    }

    async fn forward(&self, cache: &mut E::Cache, ids: &[u32], rows: Rows, with_attentions: bool) -> Result<Output> {
        self.n_calls.set(self.n_calls.get() + 1);
        match self.n_calls.get() % 2 {
            1 => Err(Error::Interrupted),
            _ => self.engine.forward(cache, ids, rows, with_attentions).await,
        }
    }
}

#[test]
fn an_interrupted_step_is_taken_again() {
    for dtype in [Dtype::Fp32, Dtype::Q8] {
        let (plain, given) =
            (Demo::new(cpu(&demo(), dtype)), json!({ "max_new_tokens": 20, "seed": 3, "eos_token_id": null }));
        let expected = plain.write(LONG, given.clone()).expect("text");
        let engine = Interrupted { engine: cpu(&demo(), dtype), n_calls: Cell::new(0) };
        let fussy = Demo::new(engine);
        let mut session = fussy.session();
        session.append(&fussy.encode(LONG));
        session.begin(fussy.options(given), 0).expect("begin");
        let mut ids = Vec::new();
        loop {
            match block_on(session.step(32)) {
                Err(Error::Interrupted) => {}
                Ok(Step::Token(chunk, finish)) => {
                    ids.push(chunk.token_id);
                    if finish.is_some() {
                        break;
                    }
                }
                other => assert!(matches!(other, Ok(Step::Prefill { .. })), "{other:?}"),
            }
        }
        assert_eq!(ids, expected.ids);
    }
}

fn a_clone_in_the_midst_of_a_generation_is_a_text_of_its_own(demo: &Demo<impl Engine>) {
    let given = json!({ "max_new_tokens": 12, "eos_token_id": null });
    let whole = demo.write(LONG, given.clone()).expect("text");
    let mut session = demo.session();
    session.append(&demo.encode(LONG));
    session.begin(demo.options(given), 0).expect("begin");
    let mut n_new = 0;
    while n_new < 5 {
        n_new += usize::from(matches!(block_on(session.step(32)).expect("step"), Step::Token(..)));
    }
    let mut branch = session.clone();
    assert_eq!(block_on(branch.step(32)).expect_err("it writes nothing yet").code(), "invalid_state");
    let rest = demo.go_on(&mut branch, json!({ "max_new_tokens": 7, "eos_token_id": null })).expect("branch");
    assert_eq!(rest.ids, whole.ids[5..]);
    assert_eq!(finish(&mut session).expect("original").ids, whole.ids[5..]);
}

fn special_tokens_are_seen_by_stop_strings_and_not_shown(demo: &Demo<impl Engine>) {
    let end = demo.encode("<|endoftext|>")[0];
    let given = |stop: Value| {
        let bias = json!({ end.to_string(): 100 });
        json!({ "max_new_tokens": 6, "eos_token_id": null, "stop": stop, "logit_bias": bias, "begin_suppress_tokens": [end] })
    };
    let free = demo.write("The old king", given(json!([]))).expect("text");
    assert!(free.ids[0] != end && free.ids[1..] == [end; 5], "{free:?}");
    let first = demo.tokenizer.decode(&free.ids[..1]).expect("decode");
    assert_eq!((free.text.as_str(), free.finish), (first.as_str(), FinishReason::Length));
    for (stop, n_ids) in [("<|endoftext|>", 2), ("text|><|end", 3)] {
        let text = demo.write("The old king", given(json!(stop))).expect("text");
        assert_eq!((text.text.as_str(), text.finish, text.ids.len()), (first.as_str(), FinishReason::Stop, n_ids));
    }
    let stop = format!("{first}<|endoftext|>");
    assert_eq!(demo.write("The old king", given(json!(stop))).expect("text").text, "");
}

fn tokens_can_be_forbidden_forced_and_put_off(demo: &Demo<impl Engine>) {
    let write = |given: Value| {
        let mut given = given;
        given["max_new_tokens"] = 8.into();
        demo.write("The old king", given).expect("text")
    };
    let free = write(json!({ "eos_token_id": null }));
    let (first, second) = (free.ids[0], free.ids[1]);
    assert_eq!(write(json!({ "eos_token_id": first })).ids, [first]);
    let late = write(json!({ "eos_token_id": first, "min_new_tokens": 3 }));
    assert!(late.ids.len() > 3 && !late.ids[..3].contains(&first), "{late:?}");
    assert!(!write(json!({ "eos_token_id": null, "suppress_tokens": [first, second] })).ids.contains(&first));
    let found = write(json!({ "eos_token_id": null, "bad_words_ids": [[first, second]] })).ids;
    assert!(found[0] == first && found[1] != second);
    assert_ne!(write(json!({ "eos_token_id": null, "logit_bias": { first.to_string(): -100 } })).ids[0], first);
    let forced = write(json!({ "eos_token_id": 5, "forced_eos_token_id": 5, "min_new_tokens": 8 }));
    assert_eq!((forced.ids.len(), forced.ids[7], forced.finish), (8, 5, FinishReason::Stop));
    assert_eq!(write(json!({ "eos_token_id": null, "temperature": 0, "seed": 4 })), free, "temperature 0 is greedy");
}

/// The options as a generation reports them, as JSON, give the same text again; numbers have the digits that were given.
fn a_recipe_gives_the_same_text(demo: &Demo<impl Engine>) {
    let given = json!({ "max_new_tokens": 25, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1,
        "logit_bias": { "7": 0.3 }, "bad_words_ids": [[3, 4]], "suppress_tokens": [9], "min_new_tokens": 2 });
    let mut session = demo.session();
    session.append(&demo.encode(LONG));
    session.begin(demo.options(given), 12345).expect("begin");
    let recipe = serde_json::to_value(session.options().expect("under way")).expect("JSON");
    let text = finish(&mut session).expect("text");
    assert_eq!((&recipe["temperature"], &recipe["seed"], &recipe["top_k"]), (&json!(0.8), &json!(12345), &json!(50)));
    let again: Value = serde_json::from_str(&recipe.to_string()).expect("JSON");
    assert_eq!(demo.write(LONG, again).expect("again"), text);
}
