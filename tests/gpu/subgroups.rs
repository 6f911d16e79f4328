//! Sums and maxima by subgroups, where the adapter has them: the same numbers as without.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::Choose;
use gpt2_web::engine::gpu::{GpuEngine, Input, MAX_K, Tuning};
use gpt2_web::engine::{Engine, Rows};
use pollster::block_on;

use crate::harness::*;
use crate::run;
use crate::tuning::check;

#[test]
fn golden_and_nasty_models() {
    let Some(device) = device_having(wgpu::Features::SUBGROUP) else { return };
    let info = device.0.adapter_info();
    eprintln!("subgroups of {} to {}", info.subgroup_min_size, info.subgroup_max_size);
    for (i, name) in ["base", "untied", "odd", "one", "inverse_layer"].into_iter().enumerate() {
        let packed = Packed::golden(name, Dtype::ALL[i % 4]);
        let ids = ids(&json(&golden(&format!("models/{name}/expected.json")))["ids"]);
        let gpu = packed.on(device.clone());
        assert!(gpu.has_subgroups());
        check(name, &packed, &gpu, &ids);
        block_on(gpu.warm_up()).expect("prompt and token agree");
    }
    let json =
        r#"{"model_type":"gpt2","n_embd":602,"n_head":2,"n_layer":1,"n_inner":2085,"vocab_size":77,"n_positions":600}"#;
    let packed = Packed::random(Config::from_json(json).expect("config"), Dtype::Q8);
    for matvec_threads in [256, 64] {
        let gpu = packed.tuned(device.clone(), Tuning { matvec_threads, ..Default::default() });
        check("nasty", &packed, &gpu, &(0..70).collect::<Vec<u32>>());
    }
}

#[test]
fn the_best_k() {
    let json = r#"{"model_type":"gpt2","n_embd":24,"n_head":2,"n_layer":1,"vocab_size":3001,"n_positions":64}"#;
    let packed = Packed::random(Config::from_json(json).expect("config"), Dtype::Q8);
    let Some(device) = device_having(wgpu::Features::SUBGROUP) else { return };
    let gpu: GpuEngine = packed.on(device);
    for k in [1, 2, 50, MAX_K] {
        let logits = run(&gpu, &mut gpu.new_cache(), &[k as u32], Rows::Last);
        let mut expected: Vec<(u32, f32)> = logits.iter().copied().zip(0..).map(|(x, id)| (id, x)).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let choose = Choose { k, ..Default::default() };
        let pending = gpu.submit(&mut cache_for(&gpu, 1), Input::Ids(&[k as u32]), &choose).expect("submit");
        let found = block_on(gpu.chosen(pending)).expect("chosen");
        assert_eq!(found.top, expected[..k], "k = {k}");
        assert_eq!((found.id, found.has_bad_logits), (expected[0].0, false));
    }
}

#[test]
fn attention_weights() {
    let packed = Packed::golden("odd", Dtype::Fp32);
    let (Some(device), Some(plain)) = (device_having(wgpu::Features::SUBGROUP), packed.gpu()) else { return };
    let gpu = packed.on(device);
    let weights = |gpu: &GpuEngine| {
        let output = block_on(gpu.forward(&mut gpu.new_cache(), &[1, 2, 3, 4, 5], Rows::Last, true)).expect("forward");
        output.attentions.expect("asked for").concat()
    };
    assert_close("weights", &weights(&gpu), &weights(&plain), 1e-5);
}
