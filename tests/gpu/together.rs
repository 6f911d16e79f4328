//! Many texts at once on the GPU: each is what it is alone, whatever it asks for and whoever is beside it.

use std::collections::HashMap;

use gpt2_kernels::Dtype;
use gpt2_web::engine::Engine;
use gpt2_web::generate::{Chunk, Event, FinishReason, News, Scheduler, Session, Step};
use pollster::block_on;
use serde_json::{Value, json};

use crate::common::{Demo, LONG, demo};
use crate::harness::*;

type Text = (Vec<Chunk>, Option<FinishReason>);

fn begun<E: Engine>(demo: &Demo<E>, (prompt, given): &(Vec<u32>, Value)) -> Session<E> {
    let mut session = demo.session();
    session.append(prompt);
    session.begin(demo.options(given.clone()), 0).expect("begin");
    session
}

fn alone<E: Engine>(demo: &Demo<E>, (prompt, given): &(Vec<u32>, Value)) -> Text {
    let mut given = given.clone();
    given["prompt_lookup_num_tokens"] = 0.into();
    let mut session = begun(demo, &(prompt.clone(), given));
    let mut chunks = Vec::new();
    loop {
        if let Step::Token(chunk, finish) = block_on(session.step(64)).expect("step") {
            chunks.push(*chunk);
            if finish.is_some() {
                return (chunks, finish);
            }
        }
    }
}

/// Texts of every kind; one ends early, and one reads a long prompt beside the others.
fn kinds<E: Engine>(demo: &Demo<E>) -> Vec<(Vec<u32>, Value)> {
    let verse = demo.encode("The cat sat on the mat. The dog sat on the log. ");
    let kind = |prompt: Vec<u32>, mut given: Value| {
        given["eos_token_id"] = Value::Null;
        (prompt, given)
    };
    vec![
        kind(verse.repeat(3), json!({ "max_new_tokens": 20, "do_sample": false, "top_logprobs": 2 })),
        kind(demo.encode("The old king"), json!({ "max_new_tokens": 14 })),
        kind(demo.encode(LONG), json!({ "max_new_tokens": 5, "seed": 9, "repetition_penalty": 1.3 })),
        kind(demo.prompt(100), json!({ "max_new_tokens": 8, "seed": 2, "top_p": 0.9, "top_k": 0 })),
        kind(demo.encode("Once"), json!({ "max_new_tokens": 12, "seed": 4, "top_k": 0, "min_p": 0.02 })),
        kind(demo.encode("Once upon"), json!({ "max_new_tokens": 3, "output_attentions": true })),
    ]
}

#[test]
fn texts_beside_others_are_what_they_are_alone() {
    let Some(gpu) = Packed::folder(&demo(), Dtype::Q8).gpu() else { return };
    let demo = Demo::new(gpu);
    let kinds = kinds(&demo);
    let expected: Vec<Text> = kinds.iter().map(|kind| alone(&demo, kind)).collect();
    let scheduler = Scheduler::new(demo.engine.clone(), Some(4));
    let mut found: HashMap<u32, Text> = HashMap::new();
    let mut numbers = Vec::new();
    let mut n_rounds = 0;
    // the first is alone for a while, so that its passes run ahead when the others come
    while numbers.len() < kinds.len() || scheduler.n_texts() != (0, 0) {
        if n_rounds % 3 == 0 && numbers.len() < kinds.len() {
            let added = scheduler.add(begun(&demo, &kinds[numbers.len()])).expect("add");
            numbers.push(added[0].id);
        }
        n_rounds += 1;
        for Event { id, news } in block_on(scheduler.step(64)).expect("step") {
            let text = found.entry(id).or_default();
            match news {
                News::Step(Step::Token(chunk, finish)) => {
                    text.0.push(*chunk);
                    text.1 = finish;
                }
                News::Step(_) => {}
                other => panic!("text {id}: {other:?}"),
            }
        }
    }
    for (i, (number, expected)) in numbers.iter().zip(&expected).enumerate() {
        assert_eq!(&found[number], expected, "text {i}");
    }
    assert!(scheduler.guesses().n_guessed > 0, "a verse that is repeated is guessed while it is alone");
}
