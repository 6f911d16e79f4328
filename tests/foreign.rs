//! A checkpoint from elsewhere, held against its own reference. It is read in place and is not part of this repository:
//! `tests/README.md`.

mod common;

use common::*;
use gpt2_web::engine::{Engine, Rows};
use gpt2_web::sampler::argmax;
use pollster::block_on;

#[test]
fn tiny_random_gpt2_equals_its_onnx_reference() {
    let Some(folder) = shared("checkpoints/tiny-random-gpt2") else { return };
    let golden = json(&folder.join("reference.json"));
    let engine = reference(&folder);
    let output = block_on(engine.forward(&mut engine.new_cache(), &ids(&golden["ids"]), Rows::All, false));
    let logits = output.expect("forward").logits;
    let rows: Vec<&[f32]> = logits.chunks_exact(engine.config().vocab_size).collect();
    assert_close("logits_last", rows[rows.len() - 1], &floats(&golden["logits_last"]), 1e-4);
    let first = golden["logits_first8_per_pos"].as_array().expect("rows");
    assert_eq!(first.len(), rows.len());
    for (i, (row, expected)) in rows.iter().zip(first).enumerate() {
        assert_close(&format!("position {i}"), &row[..8], &floats(expected), 1e-4);
    }
    let winners: Vec<u32> = rows.iter().map(|row| argmax(row).expect("argmax")).collect();
    assert_eq!(winners, ids(&golden["logits_argmax_per_pos"]));
}

#[test]
fn tiny_random_gpt2_writes_what_onnxruntime_genai_asserts() {
    let Some(folder) = shared("checkpoints/tiny-random-gpt2") else { return };
    let golden = json(&folder.join("reference.json"));
    let engine = reference(&folder);
    for case in golden["expected_greedy"].as_array().expect("expected_greedy") {
        let whole = ids(case);
        let (prompt, expected) = whole.split_at(4); // as in its test/c_api_tests.cpp
        let mut cache = engine.new_cache();
        let (mut next, mut found) = (prompt.to_vec(), Vec::new());
        for _ in expected {
            let output = block_on(engine.forward(&mut cache, &next, Rows::Last, false)).expect("forward");
            next = vec![argmax(&output.logits).expect("argmax")];
            found.extend_from_slice(&next);
        }
        assert_eq!(found, expected);
    }
}
