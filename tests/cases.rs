//! Checkpoints as people publish them, each with what transformers makes of it: `../shared/cases`, whose README tells the
//! format. Here on the CPU engine in fp32; `www/test` has the same through the package.

mod common;

use std::fs;
use std::path::Path;
use std::rc::Rc;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::generate::{FinishReason, Session, Step};
use gpt2_web::tokenizer::Tokenizer;
use pollster::block_on;
use serde::Deserialize;
use serde_json::{Value, json};

/// Cases that are not right yet, and what they wait for. One that comes out right has to leave this list.
const NOT_YET: [(&str, &str); 0] = [];

/// `expected.json`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    what: String,
    outcome: Outcome,
    error_says: Vec<String>,
    warns: Option<bool>,
    warn_says: Vec<String>,
    ids: Vec<u32>,
    n: usize,
    greedy: Vec<u32>,
    logprobs: Option<Vec<f32>>,
    text: Option<String>,
    finish_reason: Option<String>,
    encode: Vec<Tokenised>,
    decode: Vec<Tokenised>,
    #[serde(rename = "reference")]
    _reference: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Loads,
    Error,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokenised {
    text: String,
    ids: Vec<u32>,
}

/// The first thing that is not as expected.
type Checked = Result<(), String>;

fn ensure(is_right: bool, wrong: impl FnOnce() -> String) -> Checked {
    if is_right { Ok(()) } else { Err(wrong()) }
}

/// Whether `text` has each of these words, in whatever case.
fn says(text: &str, words: &[String]) -> bool {
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(&word.to_lowercase()))
}

fn check(folder: &Path, expected: &Expected) -> Checked {
    let model = match (load_folder(folder, Dtype::Fp32), &expected.outcome) {
        (Ok(model), Outcome::Loads) => model,
        (Ok(_), Outcome::Error) => return Err("it loads; expected an error".into()),
        (Err(error), Outcome::Loads) => return Err(format!("it is refused: {error}")),
        (Err(error), Outcome::Error) => {
            let message = error.to_string();
            return ensure(says(&message, &expected.error_says), || {
                format!("expected an error that says {:?}, found \"{message}\"", expected.error_says)
            });
        }
    };
    check_warnings(&model.warnings, expected)?;
    check_tokenizer(&model.tokenizer, expected)?;
    check_text(model, expected)
}

fn check_warnings(warnings: &[String], expected: &Expected) -> Checked {
    let all = warnings.join("\n");
    ensure(expected.warns.is_none_or(|warns| warns != warnings.is_empty()), || {
        format!("warnings: expected {:?}, found {warnings:?}", expected.warns)
    })?;
    ensure(says(&all, &expected.warn_says), || {
        format!("expected a warning that says {:?}, found {warnings:?}", expected.warn_says)
    })
}

fn check_tokenizer(tokenizer: &Tokenizer, expected: &Expected) -> Checked {
    for Tokenised { text, ids } in &expected.encode {
        let found = tokenizer.encode(text).map_err(|e| format!("{text:?}: {e}"))?;
        ensure(found == *ids, || format!("{text:?}: expected ids {ids:?}, found {found:?}"))?;
    }
    for Tokenised { text, ids } in &expected.decode {
        let found = tokenizer.decode(ids).map_err(|e| format!("{ids:?}: {e}"))?;
        ensure(found == *text, || format!("{ids:?}: expected text {text:?}, found {found:?}"))?;
    }
    Ok(())
}

fn check_text(model: LoadedModel, expected: &Expected) -> Checked {
    let given = json!({ "max_new_tokens": expected.n, "do_sample": false, "logprobs": true });
    let Value::Object(given) = given else { unreachable!("it is an object") };
    let told = |e: gpt2_web::Error| e.to_string();
    let options = model.defaults.with(&given, &model.config).map_err(told)?;
    let mut session = Session::new(Rc::new(model.engine), Rc::new(model.tokenizer));
    session.append(&expected.ids);
    session.begin(options, 0).map_err(told)?;
    let (mut ids, mut logprobs, mut text) = (Vec::new(), Vec::new(), String::new());
    let reason = loop {
        if let Step::Token(chunk, finish) = block_on(session.step(16)).map_err(told)? {
            ids.push(chunk.token_id);
            logprobs.extend(chunk.logprob);
            text.push_str(&chunk.text);
            if let Some(finish) = finish {
                break finish;
            }
        }
    };
    ensure(ids == expected.greedy, || format!("expected ids {:?}, found {ids:?}", expected.greedy))?;
    if let Some(expected) = &expected.logprobs {
        let is_close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-4;
        let all_close = logprobs.len() == expected.len() && logprobs.iter().zip(expected).all(is_close);
        ensure(all_close, || format!("expected log-probabilities {expected:?}, found {logprobs:?}"))?;
    }
    if let Some(expected) = &expected.text {
        ensure(text == *expected, || format!("expected text {expected:?}, found {text:?}"))?;
    }
    let reason = match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    };
    ensure(expected.finish_reason.as_deref().is_none_or(|expected| expected == reason), || {
        format!("expected finish_reason {:?}, found {reason:?}", expected.finish_reason)
    })
}

#[test]
fn each_is_what_transformers_makes_of_it() {
    let Some(root) = shared("cases/checkpoints") else { return };
    let mut folders: Vec<_> =
        fs::read_dir(root).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 25, "found {} cases", folders.len());
    let mut wrong = Vec::new();
    for folder in &folders {
        let name = folder.file_name().expect("a name").to_string_lossy();
        let expected: Expected = serde_json::from_value(json(&folder.join("expected.json"))).expect("expected.json");
        let outcome = check(folder, &expected);
        let reason = NOT_YET.iter().find(|(not_yet, _)| *not_yet == name).map(|(_, reason)| *reason);
        match (outcome, reason) {
            (Ok(()), None) => {}
            (Err(found), Some(reason)) => println!("{name} waits for {reason}: {found}"),
            (Ok(()), Some(reason)) => wrong.push(format!("{name} is right, and no longer waits for {reason}")),
            (Err(found), None) => wrong.push(format!("{name} ({}): {found}", expected.what)),
        }
    }
    let missing = NOT_YET.iter().filter(|(name, _)| !folders.iter().any(|folder| folder.ends_with(name)));
    wrong.extend(missing.map(|(name, _)| format!("there is no case {name}")));
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}
