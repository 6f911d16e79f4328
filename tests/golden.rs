//! The model against transformers: every module's output, the logits, and greedy decoding, for every kind of config.
//!
//! `tests/golden/README.md` says how the data was made. Logits of an fp32 engine are held to 1e-4.

mod common;

use burn::tensor::{Device, Tensor};
use common::*;
use gpt2_web::engine::{Cache, Engine, Rows};
use gpt2_web::gpt2::{Gpt2, KvCache};
use gpt2_web::sampler::argmax;
use pollster::block_on;

const TOLERANCE: f32 = 1e-4;

#[test]
fn logits_equal_those_of_transformers() {
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let ids = ids(&json(&folder.join("expected.json"))["ids"]);
        let expected = expected(&folder.join("expected.safetensors"));
        assert_close(name, &all_logits(&reference(&folder), &ids), &expected["logits"].1, TOLERANCE);
    }
}

#[test]
fn greedy_ids_equal_those_of_transformers() {
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let golden = json(&folder.join("expected.json"));
        let engine = reference(&folder);
        let mut cache = engine.new_cache();
        let mut next = ids(&golden["ids"]);
        let mut found = Vec::new();
        for _ in 0..golden["greedy"].as_array().expect("greedy").len() {
            let output = block_on(engine.forward(&mut cache, &next, Rows::Last, false)).expect("forward");
            next = vec![argmax(&output.logits).expect("argmax")];
            found.extend_from_slice(&next);
        }
        assert_eq!(found, ids(&golden["greedy"]), "{name}");
    }
}

#[test]
fn each_modules_output_equals_that_of_transformers() {
    for name in ["base", "odd", "inverse_layer"] {
        let folder = golden(&format!("models/{name}"));
        let ids = ids(&json(&folder.join("expected.json"))["ids"]);
        let expected = expected(&folder.join("expected.safetensors"));
        let device = Device::flex();
        let (config, mut tensors) = tensors(&folder, &device, 100);
        let model = Gpt2::load(&mut tensors, &config).expect("model");
        let check = |part: &str, found: Vec<f32>| {
            assert_close(&format!("{name}: {part}"), &found, &expected[part].1, TOLERANCE)
        };

        let mut x = model.embed(&ids, 0, &device);
        check("embed", values(x.clone()));
        for (i, block) in model.h.iter().enumerate() {
            let normed = block.ln_1.forward(x.clone());
            check(&format!("h.{i}.ln_1"), values(normed.clone()));
            let (attended, weights) = block.attn.forward(normed, &mut Default::default());
            check(&format!("h.{i}.attn"), values(attended.clone()));
            check(&format!("h.{i}.attn.weights"), values(weights));
            let normed = block.ln_2.forward(x.clone() + attended);
            check(&format!("h.{i}.ln_2"), values(normed.clone()));
            check(&format!("h.{i}.mlp"), values(block.mlp.forward(normed)));
            x = block.forward(x, &mut Default::default()).0;
            check(&format!("h.{i}"), values(x.clone()));
        }
        check("ln_f", values(model.ln_f.forward(x)));
    }
}

fn values<const N: usize>(tensor: Tensor<N>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

/// The property that every engine must have: cutting a prompt in two changes nothing, nor does going back.
#[test]
fn every_split_of_a_prompt_gives_the_same_logits() {
    let folder = golden("models/odd");
    let engine = reference(&folder);
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    let mut whole = engine.new_cache();
    let expected = block_on(engine.forward(&mut whole, &ids, Rows::Last, false)).expect("forward").logits;
    for cut in 1..ids.len() {
        let mut cache = engine.new_cache();
        block_on(engine.forward(&mut cache, &ids[..cut], Rows::None, false)).expect("first part");
        let found = block_on(engine.forward(&mut cache, &ids[cut..], Rows::Last, false)).expect("second part");
        assert_close(&format!("cut at {cut}"), &found.logits, &expected, 1e-5);

        let mut rewound: KvCache = whole.clone();
        rewound.truncate(cut);
        let found = block_on(engine.forward(&mut rewound, &ids[cut..], Rows::Last, false)).expect("after truncate");
        assert_close(&format!("truncated to {cut}"), &found.logits, &expected, 1e-5);
    }
    assert_eq!(whole.n_tokens(), ids.len(), "a clone's changes are its own");
}

#[test]
fn attention_weights_come_when_asked_for() {
    let folder = golden("models/base");
    let engine = reference(&folder);
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    let expected = expected(&folder.join("expected.safetensors"));
    let output = block_on(engine.forward(&mut engine.new_cache(), &ids, Rows::None, true)).expect("forward");
    for (i, weights) in output.attentions.expect("attentions").iter().enumerate() {
        assert_close(&format!("h.{i}"), weights, &expected[&format!("h.{i}.attn.weights")].1, TOLERANCE);
    }
    assert!(output.logits.is_empty());
}

#[test]
fn bounds_are_errors_and_not_panics() {
    let engine = reference(&golden("models/one")); // 7 tokens, context of 4
    let mut cache = engine.new_cache();
    let mut run = |ids: &[u32]| block_on(engine.forward(&mut cache, ids, Rows::Last, false)).map(|o| o.logits.len());
    assert_eq!(run(&[0, 1, 2, 3, 4]).expect_err("too long").code(), "context_window");
    assert_eq!(run(&[7]).expect_err("no such id").code(), "invalid_option");
    assert_eq!(run(&[]).expect_err("nothing").code(), "invalid_option");
    assert_eq!(run(&[0, 1, 2, 6]).expect("fits"), 7);
    assert_eq!(run(&[0]).expect_err("full").code(), "context_window");
}
