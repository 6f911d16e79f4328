//! The CPU engine against transformers and against the reference, for every kind of config and every format.

mod common;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::engine::{Engine, Rows};
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
        checks::greedy_ids_equal_those_of_transformers(name, &cpu(&golden(&format!("models/{name}")), Dtype::Fp32));
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

#[test]
fn every_split_of_a_prompt_gives_the_same_logits() {
    for dtype in Dtype::ALL {
        let engine = cpu(&golden("models/odd"), dtype);
        checks::every_split_of_a_prompt_gives_the_same_logits(dtype.name(), &engine, 0.0);
    }
}

#[test]
fn texts_in_one_pass_have_the_bits_of_texts_alone() {
    for dtype in Dtype::ALL {
        let engine = cpu(&golden("models/odd"), dtype);
        checks::texts_in_one_pass_have_the_bits_of_texts_alone(dtype.name(), &engine);
    }
    checks::texts_in_one_pass_have_the_bits_of_texts_alone("reference", &reference(&golden("models/odd")));
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
    checks::attention_weights_come_when_asked_for(&cpu(&golden("models/base"), Dtype::Fp32));
}

#[test]
fn bounds_are_errors_and_not_panics() {
    checks::bounds_are_errors_and_not_panics(&cpu(&golden("models/one"), Dtype::Q8));
}
