//! However the work is spread, the numbers are right; and the measurement that picks the spread.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Tuning};
use gpt2_web::engine::{Cache, Engine, Rows};
use pollster::block_on;

use crate::harness::*;
use crate::oracle::Oracle;
use crate::run;

fn config(json: &str) -> Config {
    Config::from_json(&format!(r#"{{"model_type":"gpt2",{json}}}"#)).expect("config")
}

/// Prefill and decode of the same ids against the oracle.
pub fn check(what: &str, packed: &Packed, gpu: &GpuEngine, ids: &[u32]) {
    let oracle = Oracle { config: &packed.config, layout: &packed.layout, image: &packed.image };
    let expected: Vec<f32> = oracle.logits(ids).into_iter().flatten().map(|x| x as f32).collect();
    let tolerance = 2e-5 * expected.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
    let prefill = run(gpu, &mut gpu.new_cache(), ids, Rows::All);
    assert_close(&format!("{what}, prefill"), &prefill, &expected, tolerance);
    let mut cache = gpu.new_cache();
    let decode: Vec<f32> = ids.iter().flat_map(|&id| run(gpu, &mut cache, &[id], Rows::Last)).collect();
    assert_close(&format!("{what}, decode"), &decode, &expected, tolerance);
}

#[test]
fn every_candidate_computes_the_same() {
    let config = config(r#""n_embd":65,"n_head":5,"n_layer":1,"n_inner":131,"vocab_size":1003,"n_positions":80"#);
    let ids: Vec<u32> = (0..70).map(|i| i * 37 % 1003).collect();
    for (i, tuning) in Tuning::variants().into_iter().enumerate() {
        let packed = Packed::random(config.clone(), Dtype::ALL[i % 4]);
        let Some(device) = device() else { return };
        let gpu = packed.tuned(device, tuning);
        assert_eq!(gpu.tuning(), tuning);
        check(&format!("{tuning:?}"), &packed, &gpu, &ids);
    }
}

#[test]
fn a_search_ends_with_something_valid_and_leaves_the_weights_alone() {
    let config = config(r#""n_embd":96,"n_head":3,"n_layer":3,"vocab_size":200,"n_positions":600"#);
    let packed = Packed::random(config, Dtype::Fp16);
    for features in [wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16, wgpu::Features::empty()] {
        let Some(device) = device_that(wgpu::Limits::default(), features) else { return };
        let has_timestamps = device.0.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let loader = packed.loader(device);
        let begin = now_ms();
        let tuning = block_on(loader.search(now_ms)).expect("search");
        eprintln!("timestamps {has_timestamps}: {tuning:?} after {:.0} ms", now_ms() - begin);
        assert!(tuning.is_valid());
        assert!(block_on(loader.read(0, packed.image.len())).expect("read") == packed.image);
        block_on(loader.prepare(tuning)).expect("prepare");
        let gpu = block_on(loader.finish()).expect("engine");
        assert_eq!(gpu.tuning(), tuning);
        check("after a search", &packed, &gpu, &(0..40).collect::<Vec<u32>>());
    }
    let Some(device) = device() else { return };
    let loader = packed.loader(device);
    let foreign = Tuning { matvec_threads: 96, ..Default::default() };
    assert_eq!(block_on(loader.prepare(foreign)).expect_err("nobody has tested it").code(), "invalid_state");
}

/// Where the time of a pass goes, told by kernel: all dispatches, and the pass counts as one.
#[test]
fn a_profile_tells_every_dispatch() {
    let packed = Packed::golden("base", Dtype::Fp32);
    let Some(device) = device_that(wgpu::Limits::default(), wgpu::Features::TIMESTAMP_QUERY) else { return };
    if !device.0.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        return;
    }
    let (gpu, n_layer) = (packed.on(device), packed.config.n_layer);
    let mut cache = gpu.new_cache();
    for (ids, per_layer) in [(&[1, 2, 3][..], 7), (&[4][..], 5)] {
        let spans = block_on(gpu.profile(&mut cache, ids)).expect("profile");
        let n: usize = spans.iter().map(|span| span.n_dispatches).sum();
        assert_eq!(n, 1 + per_layer * n_layer + 1 + 2);
        assert!(spans.iter().all(|span| span.ms.is_finite() && span.ms >= 0.0), "{spans:?}");
    }
    assert_eq!(cache.n_tokens(), 4);
    let found = run(&gpu, &mut cache, &[5], Rows::Last);
    let expected = run(&gpu, &mut gpu.new_cache(), &[1, 2, 3, 4, 5], Rows::Last);
    assert_close("after a profile", &found, &expected, 1e-4);
    let Some(plain) = packed.gpu() else { return };
    let error = block_on(plain.profile(&mut plain.new_cache(), &[1])).expect_err("no timestamps");
    assert_eq!(error.code(), "webgpu_not_available");
}

/// The shapes of gpt2-large and -xl, whose embeddings are cut into several bindings, in two of their layers.
#[test]
fn large_shapes_run_within_the_default_limits() {
    for (c, n_head, dtype) in [(1280, 20, Dtype::Fp32), (1600, 25, Dtype::Fp16)] {
        let config = config(&format!(r#""n_embd":{c},"n_head":{n_head},"n_layer":2"#));
        let packed = Packed::random(config, dtype);
        let Some(gpu) = packed.gpu() else { return };
        let ids = [50256, 1, 30000, 20001];
        let oracle = Oracle { config: &packed.config, layout: &packed.layout, image: &packed.image };
        let expected: Vec<f32> = oracle.logits(&ids).pop().expect("a row").into_iter().map(|x| x as f32).collect();
        let tolerance = 2e-5 * expected.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
        let mut cache = gpu.new_cache();
        let found = run(&gpu, &mut cache, &ids, Rows::Last);
        assert_close(&format!("{c}, prefill"), &found, &expected, tolerance);
        cache.truncate(3);
        let found = run(&gpu, &mut cache, &ids[3..], Rows::Last);
        assert_close(&format!("{c}, decode"), &found, &expected, tolerance);
    }
}
