//! The way of the weights into the device, and what happens when the device fails.

use std::rc::Rc;

use gpt2_kernels::{Dtype, Layout};
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{BringUpStep, GpuLoader, Input, Plan, Trial, TuningSource};
use gpt2_web::engine::{Engine, Rows};
use pollster::block_on;

use crate::common::checks;
use crate::harness::*;
use crate::run;

#[test]
fn an_image_is_read_back_as_it_was_written() {
    let packed = Packed::golden("untied", Dtype::Q4);
    let limits =
        wgpu::Limits { max_buffer_size: 20_000, max_storage_buffer_binding_size: 20_000, ..Default::default() };
    let Some((device, queue)) = device_with(limits) else { return };
    let loader = block_on(GpuLoader::new(device, queue, packed.config.clone(), Dtype::Q4)).expect("loader");
    for at in (0..packed.image.len()).step_by(1236).rev() {
        let piece = &packed.image[at..(at + 1236).min(packed.image.len())];
        loader.write(at, piece).expect("write");
    }
    for (at, n) in [(0, packed.image.len()), (19_996, 8), (packed.image.len() - 4, 4), (100, 0)] {
        assert!(block_on(loader.read(at, n)).expect("read") == packed.image[at..at + n], "{n} bytes at {at}");
    }
    for (at, n) in [(packed.image.len(), 4), (2, 4), (0, 3), (usize::MAX - 3, 4)] {
        assert_eq!(loader.write(at, &vec![0; n]).expect_err("a bad piece").code(), "invalid_state");
    }
}

/// The published sizes fit the limits that every WebGPU device has.
#[test]
fn every_published_size_fits_the_default_limits() {
    for (name, c, n_layer, n_head) in
        [("gpt2", 768, 12, 12), ("medium", 1024, 24, 16), ("large", 1280, 36, 20), ("xl", 1600, 48, 25)]
    {
        let json = format!(r#"{{"model_type":"gpt2","n_embd":{c},"n_layer":{n_layer},"n_head":{n_head}}}"#);
        let config = Config::from_json(&json).expect("config");
        for dtype in Dtype::ALL {
            let layout = Layout::new(&config.dims(), dtype).expect("layout");
            let plan = Plan::new(&layout, &wgpu::Limits::default()).expect(name);
            let (first, last) = (plan.buffers.first().expect("one"), plan.buffers.last().expect("one"));
            assert!(first.start == 0 && last.end == layout.n_bytes);
            assert!(plan.buffers.windows(2).all(|pair| pair[0].end == pair[1].start), "no holes");
            assert!(plan.buffers.iter().all(|b| b.start % 256 == 0 && b.len() <= 256 << 20));
            eprintln!("{name} {}: {} MB in {} buffers", dtype.name(), layout.n_bytes / 1_000_000, plan.buffers.len());
        }
    }
    let huge =
        Config::from_json(r#"{"model_type":"gpt2","vocab_size":200000,"n_embd":2048,"n_head":16}"#).expect("config");
    let layout = Layout::new(&huge.dims(), Dtype::Fp32).expect("layout");
    let error = Plan::new(&layout, &wgpu::Limits::default()).expect_err("1.6 GB of wte").to_string();
    assert!(error.contains("wte"), "{error}");
}

/// The kernels in use are held against each other at load, and a wrong one is noticed.
#[test]
fn warming_up_tests_the_kernels() {
    for name in ["base", "odd", "one"] {
        for dtype in Dtype::ALL {
            let Some(gpu) = Packed::golden(name, dtype).gpu() else { return };
            let worst = block_on(gpu.warm_up()).expect("passes");
            assert!(worst < 1e-5, "{name}: {worst}");
        }
    }
    let mut packed = Packed::golden("base", Dtype::Fp32);
    let at = packed.layout.ln_f.weight.start;
    packed.image[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let Some(gpu) = packed.gpu() else { return };
    assert_eq!(block_on(gpu.warm_up()).expect_err("NaN is equal to nothing").code(), "invalid_logits");
}

/// The steps of a load: tuned, then compiled and tested, in every format and with every nonlinearity of the self-test.
#[test]
fn a_trial_compiles_everything_and_passes() {
    for (i, dtype) in Dtype::ALL.into_iter().enumerate() {
        let packed = Packed::golden(["base", "silu", "tanh", "gelu"][i], dtype);
        let Some(device) = device() else { return };
        let model = Rc::new(packed.loader(device));
        let activation = packed.config.activation_function;
        let trial = block_on(Trial::new(model.clone(), activation)).expect("trial");
        if i == 0 {
            trial.set_tuning(TuningSource::Measured(now_ms));
        }
        let mut steps = Vec::new();
        while let Some(step) = block_on(trial.next()).expect("step") {
            steps.push((step, trial.n_pipelines_left()));
        }
        assert_eq!(steps[0].0, BringUpStep::Tuned);
        assert_eq!(trial.found().is_some(), i == 0);
        let n_left = steps[0].1;
        assert!(n_left >= 20, "{n_left}");
        let n_compiled = steps.iter().filter(|(step, _)| *step == BringUpStep::Compiled).count();
        assert_eq!((n_compiled, steps.last().expect("steps").1), (n_left, 0));
        assert_eq!(steps.iter().filter(|(step, _)| *step == BringUpStep::Tested).count(), 1);
        assert!(block_on(trial.finish()).expect("outcome").starts_with("passed"));
        let loader = Rc::try_unwrap(model).map_err(|_| "still held").expect("the owner's alone");
        block_on(block_on(loader.finish()).expect("engine").warm_up()).expect("warm");
    }
}

#[test]
fn a_lost_device_is_an_error() {
    let packed = Packed::golden("base", Dtype::Fp32);
    let Some((device, queue)) = device() else { return };
    let gpu = packed.on((device.clone(), queue));
    let mut cache = gpu.new_cache();
    run(&gpu, &mut cache, &[1, 2, 3], Rows::Last);
    let pending = gpu.submit(&mut cache, Input::Ids(&[4]), &Default::default()).expect("submit");
    device.destroy();
    _ = device.poll(wgpu::PollType::Poll);
    assert_eq!(block_on(gpu.chosen(pending)).expect_err("lost").code(), "device_lost");
    for rows in [Rows::None, Rows::Last, Rows::All] {
        let error = block_on(gpu.forward(&mut cache, &[5, 6], rows, rows == Rows::All)).expect_err("lost");
        assert_eq!(error.code(), "device_lost");
    }
    drop(cache.clone());
    assert!(gpu.submit(&mut gpu.new_cache(), Input::Ids(&[4]), &Default::default()).is_err());
}

#[test]
fn a_validation_error_is_not_swallowed() {
    let Some((device, queue)) = device() else { return };
    let gpu = Packed::golden("base", Dtype::Fp32).on((device.clone(), queue));
    let mut cache = gpu.new_cache();
    run(&gpu, &mut cache, &[1], Rows::Last);
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE; // not allowed together
    let descriptor = wgpu::BufferDescriptor { label: Some("wrong"), size: 4, usage, mapped_at_creation: false };
    drop(device.create_buffer(&descriptor));
    let error = block_on(gpu.forward(&mut cache, &[1], Rows::Last, false)).expect_err("reported").to_string();
    assert!(error.contains("wrong"), "{error}");
}

#[test]
fn bounds_are_errors_and_not_panics() {
    let Some(gpu) = Packed::golden("one", Dtype::Fp32).gpu() else { return };
    checks::bounds_are_errors_and_not_panics(&gpu);

    let Some(other) = Packed::golden("one", Dtype::Fp32).gpu() else { return };
    let error = block_on(gpu.forward(&mut other.new_cache(), &[0], Rows::Last, false)).expect_err("another's cache");
    assert_eq!(error.code(), "invalid_state");
}
