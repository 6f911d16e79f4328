//! Prompts whose tile of the weights is halves, where the adapter has `shader-f16`: weights are exact in them, so the
//! bounds are those of f32.

use std::rc::Rc;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Trial, Tuning, TuningSource};
use gpt2_web::engine::{Engine, Rows};
use pollster::block_on;

use crate::common::MODELS;
use crate::harness::*;
use crate::run;
use crate::tuning::check;

/// The formats that halves hold.
const DTYPES: [Dtype; 3] = [Dtype::Fp16, Dtype::Q8, Dtype::Q4];

fn halves() -> Tuning {
    Tuning { tile_f16: true, ..Default::default() }
}

/// The largest difference that halves make to the logits of a prompt.
fn difference(packed: &Packed, halves: &GpuEngine, device: (wgpu::Device, wgpu::Queue), ids: &[u32]) -> f32 {
    let usual = packed.on(device);
    let expected = run(&usual, &mut usual.new_cache(), ids, Rows::All);
    let found = run(halves, &mut halves.new_cache(), ids, Rows::All);
    assert_close("with halves and without", &found, &expected, 1e-4)
}

#[test]
fn golden_models() {
    let Some(device) = device_having(wgpu::Features::SHADER_F16) else { return };
    for dtype in DTYPES {
        let mut worst = 0.0_f32;
        for name in MODELS {
            let packed = Packed::golden(name, dtype);
            let ids = ids(&json(&golden(&format!("models/{name}/expected.json")))["ids"]);
            let gpu = packed.tuned(device.clone(), halves());
            assert!(gpu.tuning().tile_f16);
            check(&format!("{name} {}", dtype.name()), &packed, &gpu, &ids);
            block_on(gpu.warm_up()).expect("prompt and token agree");
            worst = worst.max(difference(&packed, &gpu, device.clone(), &ids));
        }
        eprintln!("{}: halves change logits by {worst:.1e} at most", dtype.name());
    }
}

/// Every tile, on sizes that are no multiple of it.
#[test]
fn every_tile() {
    let Some(device) = device_having(wgpu::Features::SHADER_F16) else { return };
    let json =
        r#"{"model_type":"gpt2","n_embd":65,"n_head":5,"n_layer":1,"n_inner":131,"vocab_size":1003,"n_positions":80}"#;
    let ids: Vec<u32> = (0..70).map(|i| i * 37 % 1003).collect();
    for dtype in DTYPES {
        let packed = Packed::random(Config::from_json(json).expect("config"), dtype);
        for tile in Tuning::variants().into_iter().map(|t| t.tile).collect::<std::collections::BTreeSet<_>>() {
            let gpu = packed.tuned(device.clone(), Tuning { tile, ..halves() });
            check(&format!("{tile:?} {}", dtype.name()), &packed, &gpu, &ids);
        }
    }
}

/// Activations are f32 in their tile: those that no half holds are as right as others.
#[test]
fn activations_beyond_all_halves() {
    let Some(device) = device_having(wgpu::Features::SHADER_F16) else { return };
    let folder = golden("models/relu");
    let text = std::fs::read_to_string(folder.join("config.json")).expect("config");
    let scaled = |(name, mut values): (String, Vec<f32>)| {
        let factor = match () {
            _ if name.contains("mlp.c_fc") => 1e7,
            _ if name.ends_with("mlp.c_proj.weight") => 1e-7,
            _ => 1.0,
        };
        values.iter_mut().for_each(|x| *x *= factor);
        (name, values)
    };
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    for dtype in DTYPES {
        let tensors = tensors(&folder.join("model.safetensors")).into_iter().map(scaled);
        let packed = Packed::from_tensors(Config::from_json(&text).expect("config"), dtype, tensors);
        let gpu = packed.tuned(device.clone(), halves());
        let logits = run(&gpu, &mut gpu.new_cache(), &ids, Rows::All);
        assert!(logits.iter().all(|x| x.is_finite()));
        check(&format!("large activations, {}", dtype.name()), &packed, &gpu, &ids);
    }
}

/// A remembered tuning counts only where it can be run; forced, it is an error and no invalid shader.
#[test]
fn what_is_remembered_must_fit_the_device_and_the_format() {
    let (Some(plain), Some(able)) = (device(), device_having(wgpu::Features::SHADER_F16)) else { return };
    for dtype in Dtype::ALL {
        let packed = Packed::golden("one", dtype);
        for (device, has_f16) in [(&plain, false), (&able, true)] {
            let loader = packed.loader(device.clone());
            let expected = (has_f16 && dtype != Dtype::Fp32).then(halves);
            assert_eq!(loader.remembered(&halves().to_json()), expected, "{}, {has_f16}", dtype.name());
            assert_eq!(loader.remembered(&Tuning::default().to_json()), Some(Tuning::default()));
            assert_eq!(loader.remembered("{}"), None);
            let prepared = block_on(loader.prepare(halves()));
            assert_eq!(prepared.map_err(|e| e.code()), expected.map(|_| ()).ok_or("invalid_state"));
        }
    }
}

/// The steps of a load with a tuning that was remembered, up to the known-answer test.
#[test]
fn a_trial_passes() {
    for dtype in DTYPES {
        let Some(device) = device_having(wgpu::Features::SHADER_F16) else { return };
        let packed = Packed::golden("base", dtype);
        let model = Rc::new(packed.loader(device));
        let trial = block_on(Trial::new(model.clone(), packed.config.activation_function)).expect("trial");
        trial.set_tuning(TuningSource::Known(halves()));
        assert!(block_on(trial.finish()).expect("outcome").starts_with("passed"));
        let loader = Rc::try_unwrap(model).map_err(|_| "still held").expect("the owner's alone");
        assert!(block_on(loader.finish()).expect("engine").tuning().tile_f16);
    }
}
