//! A session over the GPU engine: choosing a pass ahead on the device writes the text that all logits would have given.

use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuCache, GpuEngine};
use gpt2_web::engine::{Cache, Engine, Output, Rows};
use gpt2_web::generate::GenerateOptions;
use gpt2_web::generate::{FinishReason, Session, Step};
use gpt2_web::tokenizer::Tokenizer;
use gpt2_web::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};

use crate::harness::*;

/// The same engine without its own choice: reads all logits.
struct LogitsOnly(GpuEngine);

impl Engine for LogitsOnly {
    type Cache = GpuCache;
    type Pending = Infallible;

    fn config(&self) -> &Config {
        self.0.config()
    }

    fn new_cache(&self) -> GpuCache {
        self.0.new_cache()
    }

    async fn forward(&self, cache: &mut GpuCache, ids: &[u32], rows: Rows, with_attentions: bool) -> Result<Output> {
        self.0.forward(cache, ids, rows, with_attentions).await
    }
}

fn demo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo")
}

fn tokenizer() -> Rc<Tokenizer> {
    let json = std::fs::read(demo().join("tokenizer.json")).expect("tokenizer.json");
    Rc::new(Tokenizer::from_tokenizer_json(&json).expect("tokenizer"))
}

fn options(config: &Config, given: &Value) -> GenerateOptions {
    let Value::Object(given) = given else { panic!("an object") };
    GenerateOptions::defaults(config, None).0.with(given, config).expect("options")
}

type Text = (String, Vec<u32>, Option<FinishReason>);

fn go_on<E: Engine>(session: &mut Session<E>, config: &Config, given: &Value) -> Result<Text> {
    session.begin(options(config, given), 0)?;
    finish(session)
}

fn finish<E: Engine>(session: &mut Session<E>) -> Result<Text> {
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        match block_on(session.step(32))? {
            Step::Prefill { .. } | Step::Refill => {}
            Step::Token(chunk, finish) => {
                text.push_str(&chunk.text);
                ids.push(chunk.token_id);
                if finish.is_some() {
                    return Ok((text, ids, finish));
                }
            }
        }
    }
}

const PROMPT: &str = "Once upon a time there was a little girl who lived with her mother in a small house at the edge of a \
    great forest, and every day she";

#[test]
fn a_pass_ahead_writes_the_text_that_all_logits_give() {
    let packed = Packed::folder(&demo(), Dtype::Fp32);
    let (Some(ahead), Some(plain)) = (packed.gpu(), packed.gpu()) else { return };
    let (ahead, plain, tokenizer) = (Rc::new(ahead), Rc::new(LogitsOnly(plain)), tokenizer());
    let (mut a, mut b) = (Session::new(ahead.clone(), tokenizer.clone()), Session::new(plain, tokenizer.clone()));
    let config = packed.config.clone();
    let prompt = tokenizer.encode(PROMPT).expect("encode");
    let same = |a: &mut Session<GpuEngine>, b: &mut Session<LogitsOnly>, given: Value| {
        let texts = (go_on(a, &config, &given).expect("ahead"), go_on(b, &config, &given).expect("all logits"));
        assert_eq!(texts.0, texts.1, "{given}");
        assert_eq!(a.ids(), b.ids(), "{given}");
        texts.0
    };
    let mut free = None;
    for given in [
        json!({ "max_new_tokens": 40 }),
        json!({ "max_new_tokens": 1 }),
        json!({ "max_new_tokens": 40, "top_k": 1, "seed": 1 }),
        json!({ "max_new_tokens": 40, "top_k": 40, "seed": 1 }),
        json!({ "max_new_tokens": 40, "top_k": 63, "seed": 2, "temperature": 1.7 }),
        json!({ "max_new_tokens": 40, "top_k": 20, "seed": 3, "top_p": 0.8 }),
        json!({ "max_new_tokens": 40, "top_k": 50, "seed": 4, "min_p": 0.05, "top_p": 0.95, "temperature": 0.7 }),
        json!({ "max_new_tokens": 40, "top_k": 0, "seed": 7 }),
        json!({ "max_new_tokens": 60, "top_k": 0, "seed": 8, "temperature": 0.6 }),
        json!({ "max_new_tokens": 60, "top_k": 0, "seed": 9, "temperature": 1.5 }),
        // those that need all logits, between the others
        json!({ "max_new_tokens": 10, "top_k": 64, "seed": 5 }),
        json!({ "max_new_tokens": 10, "seed": 6, "top_p": 0.9 }),
        json!({ "max_new_tokens": 10, "repetition_penalty": 1.3 }),
        json!({ "max_new_tokens": 10, "logprobs": true }),
    ] {
        let mut given = given;
        given["eos_token_id"] = Value::Null;
        a.replace(prompt.clone(), true);
        b.replace(prompt.clone(), true);
        let text = same(&mut a, &mut b, given);
        free.get_or_insert(text);
    }

    // ended in the middle: nothing after it is shown, and what ran ahead leaves no trace
    let (text, ids, _) = free.expect("greedy");
    let at = text.char_indices().filter(|(_, c)| *c == ' ').nth(4).expect("five words").0;
    for given in [
        json!({ "max_new_tokens": 40, "eos_token_id": null, "stop": &text[at - 1..at + 3] }),
        json!({ "max_new_tokens": 40, "eos_token_id": ids[7] }),
    ] {
        a.replace(prompt.clone(), true);
        b.replace(prompt.clone(), true);
        let (found, _, reason) = same(&mut a, &mut b, given);
        assert_eq!(reason, Some(FinishReason::Stop));
        assert!(text.starts_with(&found) && found.len() < text.len());
        let more = json!({ "max_new_tokens": 12, "eos_token_id": null, "top_k": 9, "seed": 8 });
        same(&mut a, &mut b, more.clone());
        a.rewind(5).expect("rewind");
        b.rewind(5).expect("rewind");
        same(&mut a, &mut b, more);
    }

    // interrupted, and another text in between: the choice on the device is gone, the text is not
    a.replace(prompt.clone(), true);
    a.begin(options(&config, &json!({ "max_new_tokens": 40, "eos_token_id": null })), 0).expect("begin");
    let mut found = Vec::new();
    for i in 0..12 {
        if i % 3 == 2 {
            let mut other = a.clone();
            other.append(&[7]);
            go_on(&mut other, &config, &json!({ "max_new_tokens": 2, "eos_token_id": null })).expect("other");
        }
        let Step::Token(chunk, _) = block_on(a.step(64)).expect("step") else { panic!("a short prompt") };
        found.push(chunk.token_id);
    }
    assert_eq!(found, ids[..12]);
    a.interrupt();
    b.replace(a.ids().to_vec(), true);
    same(&mut a, &mut b, json!({ "max_new_tokens": 9, "eos_token_id": null }));

    // to the window's end, and past it
    for overflow in ["stop", "slide"] {
        let long: Vec<u32> = prompt.iter().copied().cycle().take(config.n_positions - 6).collect();
        a.replace(long.clone(), false);
        b.replace(long, false);
        let given =
            json!({ "max_new_tokens": 20, "eos_token_id": null, "context_overflow": overflow, "top_k": 30, "seed": 9 });
        let n_new = same(&mut a, &mut b, given).1.len();
        assert_eq!(n_new, if overflow == "stop" { 7 } else { 20 }, "the last one is chosen from a full window");
    }
}

#[test]
fn a_token_of_a_session_costs_one_submit_and_no_object() {
    let packed = Packed::folder(&demo(), Dtype::Fp16);
    let Some(gpu) = packed.gpu() else { return };
    let (gpu, tokenizer) = (Rc::new(gpu), tokenizer());
    let n_layer = packed.config.n_layer as u64;
    let mut session = Session::new(gpu.clone(), tokenizer.clone());
    session.append(&tokenizer.encode(PROMPT).expect("encode"));
    for given in [
        json!({ "max_new_tokens": 60, "eos_token_id": null }),
        json!({ "max_new_tokens": 60, "eos_token_id": null, "top_k": 63, "top_p": 0.95, "seed": 1 }),
        json!({ "max_new_tokens": 60, "eos_token_id": null, "top_k": 0, "temperature": 0.7, "seed": 1 }),
    ] {
        session.rewind(session.context_usage() - 20).expect("rewind");
        session.begin(options(&packed.config, &given), 0).expect("begin");
        for _ in 0..4 {
            block_on(session.step(32)).expect("step");
        }
        let before = gpu.counters();
        for _ in 0..40 {
            block_on(session.step(32)).expect("step");
        }
        let used = gpu.counters().since(&before);
        // where device and host differ the token costs a second pass: rounding, so hardly ever
        let n_most = 41;
        assert!(used.n_submits <= n_most, "{} submits for 40 tokens", used.n_submits);
        assert!(used.n_dispatches <= n_most * (4 + 5 * n_layer), "{} dispatches", used.n_dispatches);
        assert_eq!(used.n_objects, 0);
        assert!(used.read_bytes <= 40 * 1024, "{} bytes", used.read_bytes);
        session.end();
    }
}

#[test]
fn a_lost_device_is_left_in_mid_sentence() {
    let packed = Packed::folder(&demo(), Dtype::Fp32);
    let Some((device, queue)) = device() else { return };
    let (first, Some(second)) = (Rc::new(packed.on((device.clone(), queue))), packed.gpu()) else { return };
    let (second, tokenizer) = (Rc::new(second), tokenizer());
    let prompt = tokenizer.encode(PROMPT).expect("encode");
    let given = json!({ "max_new_tokens": 30, "eos_token_id": null, "top_k": 40, "seed": 11, "temperature": 1.2 });
    let mut undisturbed = Session::new(second.clone(), tokenizer.clone());
    undisturbed.append(&prompt);
    let expected = go_on(&mut undisturbed, &packed.config, &given).expect("undisturbed");

    let mut session = Session::new(first, tokenizer.clone());
    session.append(&prompt);
    session.begin(options(&packed.config, &given), 0).expect("begin");
    let (mut text, mut ids) = (String::new(), Vec::new());
    for _ in 0..9 {
        if let Step::Token(chunk, _) = block_on(session.step(64)).expect("step") {
            text.push_str(&chunk.text);
            ids.push(chunk.token_id);
        }
    }
    device.destroy();
    for _ in 0..2 {
        assert!(matches!(block_on(session.step(64)), Err(Error::DeviceLost(_))), "and it stays so");
    }
    session.move_to(second.clone(), tokenizer);
    let rest = finish(&mut session).expect("the rest");
    assert_eq!((text + &rest.0, [ids, rest.1].concat(), rest.2), expected);
    assert!(second.new_cache().n_tokens() == 0 && session.ids() == undisturbed.ids());
}
