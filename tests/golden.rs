//! The model against transformers: every module's output, the logits, and greedy decoding, for every kind of config.
//!
//! `tests/golden/README.md` says how the data was made. Logits of an fp32 engine are held to 1e-4.

mod common;

use burn::tensor::{Device, Tensor};
use common::*;
use gpt2_web::gpt2::Gpt2;

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
        checks::greedy_ids_equal_those_of_transformers(name, &reference(&golden(&format!("models/{name}"))));
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

#[test]
fn every_split_of_a_prompt_gives_the_same_logits() {
    checks::every_split_of_a_prompt_gives_the_same_logits("reference", &reference(&golden("models/odd")), 1e-5);
}

#[test]
fn attention_weights_come_when_asked_for() {
    checks::attention_weights_come_when_asked_for(&reference(&golden("models/base")));
}

#[test]
fn bounds_are_errors_and_not_panics() {
    checks::bounds_are_errors_and_not_panics(&reference(&golden("models/one")));
}
