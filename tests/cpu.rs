//! The CPU engine against transformers and against the reference, for every kind of config and every format.

mod common;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::engine::{Cache, Engine, Rows};
use gpt2_web::sampler::argmax;
use pollster::block_on;

#[test]
fn fp32_logits_equal_those_of_transformers() {
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let ids = ids(&json(&folder.join("expected.json"))["ids"]);
        let expected = expected(&folder.join("expected.safetensors"));
        assert_close(name, &all_logits(&cpu(&folder, Dtype::Fp32), &ids), &expected["logits"].1, 1e-4);
    }
}

#[test]
fn fp32_greedy_ids_equal_those_of_transformers() {
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let golden = json(&folder.join("expected.json"));
        let engine = cpu(&folder, Dtype::Fp32);
        let (mut cache, mut next, mut found) = (engine.new_cache(), ids(&golden["ids"]), Vec::new());
        for _ in 0..golden["greedy"].as_array().expect("greedy").len() {
            let output = block_on(engine.forward(&mut cache, &next, Rows::Last, false)).expect("forward");
            next = vec![argmax(&output.logits).expect("argmax")];
            found.extend_from_slice(&next);
        }
        assert_eq!(found, ids(&golden["greedy"]), "{name}");
    }
}

#[test]
fn each_format_is_as_near_to_the_reference_as_its_steps_allow() {
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let ids = ids(&json(&folder.join("expected.json"))["ids"]);
        let expected = all_logits(&reference(&folder), &ids);
        for (dtype, bound) in [(Dtype::Fp32, 1e-5), (Dtype::Fp16, 2e-3), (Dtype::Q8, 0.05), (Dtype::Q4, 0.3)] {
            let error = relative_error(&all_logits(&cpu(&folder, dtype), &ids), &expected);
            println!("{name} {}: {error:.1e}", dtype.name());
            assert!(error < bound, "{name} in {}: {error:.1e} is above {bound:.1e}", dtype.name());
        }
    }
}

/// As for the reference in tests/golden.rs: cutting a prompt in two changes nothing, nor does going back.
#[test]
fn every_split_of_a_prompt_gives_the_same_logits() {
    let folder = golden("models/odd");
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    for dtype in Dtype::ALL {
        let engine = cpu(&folder, dtype);
        let mut whole = engine.new_cache();
        let expected = block_on(engine.forward(&mut whole, &ids, Rows::Last, false)).expect("forward").logits;
        for cut in 1..ids.len() {
            let mut cache = engine.new_cache();
            block_on(engine.forward(&mut cache, &ids[..cut], Rows::None, false)).expect("first part");
            let found = block_on(engine.forward(&mut cache, &ids[cut..], Rows::Last, false)).expect("second part");
            assert_close(&format!("{} cut at {cut}", dtype.name()), &found.logits, &expected, 1e-4);

            let mut rewound = whole.clone();
            rewound.truncate(cut);
            let found = block_on(engine.forward(&mut rewound, &ids[cut..], Rows::Last, false)).expect("after truncate");
            assert_close(&format!("{} truncated to {cut}", dtype.name()), &found.logits, &expected, 1e-4);
        }
        assert_eq!(whole.n_tokens(), ids.len(), "a clone's changes are its own");
    }
}

#[test]
fn a_long_prompt_equals_the_reference() {
    let (folder, ids) = demo_prompt();
    let expected = all_logits(&reference(&folder), &ids);
    for (dtype, bound) in [(Dtype::Fp32, 1e-4), (Dtype::Fp16, 2e-3), (Dtype::Q8, 0.05), (Dtype::Q4, 0.3)] {
        let engine = cpu(&folder, dtype);
        let all = all_logits(&engine, &ids);
        let error = relative_error(&all, &expected);
        println!("{}: {error:.1e}", dtype.name());
        assert!(error < bound, "{}: {error:.1e} is above {bound:.1e}", dtype.name());

        // what only the other rows need is left out where only the last is asked for
        let last = block_on(engine.forward(&mut engine.new_cache(), &ids, Rows::Last, false)).expect("forward").logits;
        assert_close(dtype.name(), &last, &all[all.len() - last.len()..], 1e-3);
    }
}

#[test]
fn attention_weights_come_when_asked_for() {
    let folder = golden("models/base");
    let engine = cpu(&folder, Dtype::Fp32);
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    let expected = expected(&folder.join("expected.safetensors"));
    let output = block_on(engine.forward(&mut engine.new_cache(), &ids, Rows::None, true)).expect("forward");
    for (i, weights) in output.attentions.expect("attentions").iter().enumerate() {
        assert_close(&format!("h.{i}"), weights, &expected[&format!("h.{i}.attn.weights")].1, 1e-4);
    }
    assert!(output.logits.is_empty());
}

#[test]
fn bounds_are_errors_and_not_panics() {
    let engine = cpu(&golden("models/one"), Dtype::Q8); // 7 tokens, context of 4
    let mut cache = engine.new_cache();
    let mut run = |ids: &[u32]| block_on(engine.forward(&mut cache, ids, Rows::Last, false)).map(|o| o.logits.len());
    assert_eq!(run(&[0, 1, 2, 3, 4]).expect_err("too long").code(), "context_window");
    assert_eq!(run(&[7]).expect_err("no such id").code(), "invalid_option");
    assert_eq!(run(&[]).expect_err("nothing").code(), "invalid_option");
    assert_eq!(run(&[0, 1, 2, 6]).expect("fits"), 7);
    assert_eq!(run(&[0]).expect_err("full").code(), "context_window");
}
