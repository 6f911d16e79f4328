//! Low-rank adapters on the CPU engine, held against PEFT's numbers (`tests/README.md` tells where these are).

mod common;

use std::fs;
use std::path::Path;

use common::adapters::*;
use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::adapter::{Adapter, CONFIG_FILE, WEIGHTS_FILE};
use gpt2_web::engine::{BatchRow, Engine, Rows};
use pollster::block_on;

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn logits_are_those_of_peft_and_without_an_adapter_those_of_before() {
    let Some(learn) = shared("learn") else { return };
    let (lora, model) = (learn.join("lora"), learn.join("trained"));
    let expected = expected(&lora.join("logits.safetensors"));
    let ids = prompt(&learn);
    let engine = cpu(&model, Dtype::Fp32);
    let before = logits(&engine, None, &ids);
    assert_close("base", &before, &expected["base"].1, 1e-4);
    let mut numbers = Vec::new();
    for name in ["adapter", "init", "rslora", "bf16", "pattern"] {
        let adapter = adapter(&model, &lora.join(name)).expect(name);
        numbers.push((name, add(&engine, &[(&adapter, 1.0)])));
    }
    let half = add(&engine, &[(&adapter(&model, &lora.join("adapter")).expect("adapter"), 0.5)]);
    numbers.push(("adapter_scale_0.5", half));
    // in any order, with others between them
    for (name, number) in numbers.iter().chain(numbers.iter().rev()) {
        assert_close(name, &logits(&engine, Some(*number), &ids), &expected[*name].1, 1e-4);
        assert_eq!(bits(&logits(&engine, None, &ids)), bits(&before), "without it, after {name}");
    }
    assert_close("merged", &logits(&engine, Some(numbers[0].1), &ids), &expected["merged"].1, 1e-4);
    let mut cache = engine.new_cache_with(Some(numbers[0].1));
    numbers.iter().for_each(|(_, number)| engine.free_adapter(*number));
    let output = block_on(engine.forward(&mut cache, &ids, Rows::All, false)).expect("forward");
    assert_close("given up", &output.logits, &expected["adapter"].1, 1e-4);
}

#[test]
fn two_adapters_add_up() {
    let Some(learn) = shared("learn") else { return };
    let model = learn.join("trained");
    let [a, b] = ["adapter", "pattern"].map(|name| adapter(&model, &learn.join("lora").join(name)).expect(name));
    let ids = prompt(&learn);
    let engine = cpu(&model, Dtype::Fp32);
    let of = |parts: &[(&Adapter, f32)]| logits(&engine, Some(add(&engine, parts)), &ids);
    // weights that cancel out leave the base model
    assert_close("a - a", &of(&[(&a, 0.7), (&a, -0.7)]), &logits(&engine, None, &ids), 1e-5);
    assert_close("a in two", &of(&[(&a, 0.25), (&a, 0.75)]), &of(&[(&a, 1.0)]), 1e-4);
    let both = of(&[(&a, 0.5), (&b, 0.5)]);
    assert_close("in any order", &both, &of(&[(&b, 0.5), (&a, 0.5)]), 1e-4);
    assert!(relative_error(&both, &of(&[(&a, 0.5)])) > 0.01, "the second one counts");
}

#[test]
fn texts_of_different_adapters_in_one_pass_have_the_bits_of_texts_alone() {
    let Some(learn) = shared("learn") else { return };
    let model = learn.join("trained");
    let adapters = ["adapter", "rslora", "pattern"].map(|name| adapter(&model, &learn.join("lora").join(name)));
    let ids = prompt(&learn);
    for dtype in Dtype::ALL {
        let engine = cpu(&model, dtype);
        let number =
            |adapter: &gpt2_web::Result<Adapter>| add(&engine, &[(adapter.as_ref().expect("an adapter"), 1.0)]);
        let [a, b, c] = adapters.each_ref().map(number);
        let texts = [(Some(a), 1), (None, 7), (Some(b), 16), (Some(c), 3), (Some(a), 9)];
        let mut caches = texts.map(|(adapter, _)| engine.new_cache_with(adapter));
        let rows = caches.iter_mut().zip(&texts);
        let mut rows: Vec<_> =
            rows.map(|(cache, (_, n))| BatchRow { cache, ids: &ids[..*n], rows: Rows::All }).collect();
        let found = block_on(engine.forward_batch(&mut rows)).expect("a pass");
        for ((adapter, n), found) in texts.iter().zip(found) {
            let alone = logits(&engine, *adapter, &ids[..*n]);
            assert_eq!(bits(&found.logits), bits(&alone), "{} {adapter:?} {n}", dtype.name());
        }
        // token by token, from a copy
        let whole = logits(&engine, Some(a), &ids);
        let mut cache = engine.new_cache_with(Some(a));
        let v = engine.config().vocab_size;
        for (i, id) in ids.iter().enumerate() {
            cache = cache.clone();
            let output = block_on(engine.forward(&mut cache, &[*id], Rows::All, false)).expect("forward");
            assert_eq!(bits(&output.logits), bits(&whole[i * v..][..v]), "{}, token {i}", dtype.name());
        }
    }
}

#[test]
fn formats_are_as_near_with_an_adapter_as_without_one() {
    let Some(learn) = shared("learn") else { return };
    let model = learn.join("trained");
    let adapter = adapter(&model, &learn.join("lora/adapter")).expect("an adapter");
    let expected = expected(&learn.join("lora/logits.safetensors"));
    for (dtype, bound) in [(Dtype::Fp16, 2e-3), (Dtype::Q8, 0.02), (Dtype::Q4, 0.15)] {
        let engine = cpu(&model, dtype);
        let number = add(&engine, &[(&adapter, 1.0)]);
        let error = relative_error(&logits(&engine, Some(number), &prompt(&learn)), &expected["adapter"].1);
        println!("{}: {error:.1e}", dtype.name());
        assert!(error < bound, "{}: {error:.1e} is above {bound:.1e}", dtype.name());
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let Some(learn) = shared("learn") else { return };
    let model = learn.join("trained");
    for (name, reason) in [
        ("dora", "`use_dora`"),
        ("modules-to-save", "`modules_to_save`"),
        ("bias", "`bias`"),
        ("wrong-shapes", "[8, 32]"),
        ("deeper-model", "h.2.attn.c_attn.lora_A.weight"),
        ("other-model", "c_attn, c_proj and c_fc"),
        ("missing-tensor", "transformer.h.1.mlp.c_fc.lora_B.weight"),
        ("wrong-rank", "rank 4"),
        ("not-lora", "`peft_type`"),
    ] {
        let error = adapter(&model, &learn.join("lora/refused").join(name)).expect_err(name);
        assert_eq!(error.code(), "checkpoint", "{name}");
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn files_that_are_cut_or_changed_are_errors() {
    let Some(learn) = shared("learn") else { return };
    let model = config(&learn.join("trained"));
    let folder = learn.join("lora/rslora");
    let (json, weights) = (text(&folder.join(CONFIG_FILE)), fs::read(folder.join(WEIGHTS_FILE)).expect("weights"));
    let read = |weights: &[u8]| Adapter::from_peft(&model, &json, weights);
    read(&weights).expect("whole");
    for n in (0..weights.len()).step_by(97) {
        assert_eq!(read(&weights[..n]).expect_err("cut").code(), "checkpoint", "{n} bytes");
    }
    let mut infinite = weights.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(read(&infinite).expect_err("infinite").to_string().contains("finite"));
    let at = weights.windows(6).position(|bytes| bytes == b"lora_A").expect("a name");
    let mut renamed = weights.clone();
    renamed[at..at + 6].copy_from_slice(b"lora_E");
    assert!(read(&renamed).expect_err("no such tensor").to_string().contains("lora_E"));
}

#[test]
fn what_the_trainer_saved_computes_what_peft_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lora");
    let told = json(&folder.join("expected.json"));
    let expected = expected(&folder.join("expected.safetensors"));
    let engine = cpu(&demo(), Dtype::Fp32);
    let adapter = adapter(&demo(), &folder).expect("an adapter");
    assert_eq!(adapter.n_params() as u64, told["n_params"].as_u64().expect("a number"));
    let (ids, v) = (ids(&told["ids"]), engine.config().vocab_size);
    let nll = |logits: &[f32]| {
        let rows = logits.chunks_exact(v).zip(&ids[1..]);
        let of = |(row, id): (&[f32], &u32)| {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            sum.ln() - f64::from(row[*id as usize])
        };
        rows.map(of).sum::<f64>() / (ids.len() - 1) as f64
    };
    let number = add(&engine, &[(&adapter, 1.0)]);
    for (name, number) in [("nll", Some(number)), ("nll_base", None)] {
        let logits = logits(&engine, number, &ids);
        let (found, expected) = (nll(&logits), told[name].as_f64().expect("a number"));
        assert!((found - expected).abs() < 1e-4, "{name}: {found}, PEFT has {expected}");
    }
    let all = logits(&engine, Some(number), &ids);
    assert_close("the last token", &all[all.len() - v..], &expected["logits_last"].1, 2e-4);
}
