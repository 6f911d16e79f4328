//! The GPU engine against transformers, against the reference and against a naive oracle, on whatever adapter there is.

mod adapters;
mod ahead;
mod batch;
mod bits;
#[path = "../common/mod.rs"]
mod common;
mod exact;
mod halves;
mod harness;
mod load;
mod session;
mod subgroups;
mod together;
mod tuning;

use common::oracle;
use common::{MODELS, all_logits, demo_prompt, reference, relative_error};
use gpt2_kernels::Dtype;
use gpt2_web::engine::gpu::GpuEngine;
use gpt2_web::engine::{Engine, Rows};
use gpt2_web::sampler::argmax;
use harness::*;
use pollster::block_on;

fn run(gpu: &GpuEngine, cache: &mut <GpuEngine as Engine>::Cache, ids: &[u32], rows: Rows) -> Vec<f32> {
    block_on(gpu.forward(cache, ids, rows, false)).expect("forward").logits
}

#[test]
fn fp32_equals_transformers() {
    let mut worst = 0.0_f32;
    for name in MODELS {
        let folder = golden(&format!("models/{name}"));
        let expected_json = json(&folder.join("expected.json"));
        let logits =
            tensors(&folder.join("expected.safetensors")).into_iter().find(|(n, _)| n == "logits").expect("logits").1;
        let prompt = ids(&expected_json["ids"]);
        let Some(gpu) = Packed::golden(name, Dtype::Fp32).gpu() else { return };
        let found = run(&gpu, &mut gpu.new_cache(), &prompt, Rows::All);
        worst = worst.max(assert_close(&format!("{name}, prefill"), &found, &logits, 1e-4));

        // the same one token at a time
        let mut cache = gpu.new_cache();
        let found: Vec<f32> = prompt.iter().flat_map(|&id| run(&gpu, &mut cache, &[id], Rows::Last)).collect();
        worst = worst.max(assert_close(&format!("{name}, decode"), &found, &logits, 1e-4));

        let mut cache = gpu.new_cache();
        let (mut next, mut greedy) = (prompt, Vec::new());
        for _ in 0..expected_json["greedy"].as_array().expect("greedy").len() {
            next = vec![argmax(&run(&gpu, &mut cache, &next, Rows::Last)).expect("argmax")];
            greedy.extend_from_slice(&next);
        }
        assert_eq!(greedy, ids(&expected_json["greedy"]), "{name}");
    }
    eprintln!("fp32 against transformers: off by {worst:.1e} at most");
}

#[test]
fn a_long_prompt_equals_the_reference() {
    let (folder, ids) = demo_prompt();
    let expected = all_logits(&reference(&folder), &ids);
    for (dtype, bound) in [(Dtype::Fp32, 1e-5), (Dtype::Fp16, 2e-3), (Dtype::Q8, 0.05), (Dtype::Q4, 0.3)] {
        let Some(gpu) = Packed::folder(&folder, dtype).gpu() else { return };
        let error = relative_error(&all_logits(&gpu, &ids), &expected);
        eprintln!("{} against the reference: {error:.1e}", dtype.name());
        assert!(error < bound, "{}: {error:.1e} is above {bound:.1e}", dtype.name());
    }
}
