//! Learning on Burn's devices against the processor's own passes and PyTorch's numbers.
#![cfg(feature = "burn")]

mod common;

use std::slice::from_ref;

use burn::tensor::Device;
use common::{learner as own_learner, *};
use learn::device::{DeviceLearner, Place, open};
use learn::fused::Sums;
use learn::optim::Muon;
use learn::train::{Batch, Precision, Recipe, State};

/// The processor by Burn's loops, and a GPU that software plays on it, if the system has one.
fn devices() -> Vec<(&'static str, Device)> {
    let software = open(Place::SoftwareGpu, false);
    if let Err(error) = &software {
        assert!(std::env::var_os("CI").is_none(), "{error}");
        eprintln!("SKIPPED: {error}");
    }
    let flex = open(Place::Flex, false).expect("flex");
    [("flex", Ok(flex)), ("software-gpu", software)].into_iter().filter_map(|(n, d)| Some((n, d.ok()?))).collect()
}

fn on(start: &learn::checkpoint::Checkpoint, recipe: Recipe, devices: &[Device], read_every: usize) -> DeviceLearner {
    let state = State::new(start.params.clone());
    DeviceLearner::new(start.model.clone(), recipe, &state, devices, Precision::Fp32, read_every).expect("a learner")
}

#[test]
fn three_steps_are_those_of_pytorch() {
    let Some(folder) = shared("learn") else { return };
    let (json, tensors) = (json(&folder.join("step.json")), tensors(&folder.join("step.safetensors")));
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let layout = &start.model.layout;
    let losses = floats(&json["three_steps"]["loss"]);
    for (name, device) in devices() {
        let recipe = recipe(constant(0.01));
        let (mut learner, mut own) = (on(&start, recipe, &[device], 1), own_learner(&start, recipe));
        for (i, &expected) in losses.iter().enumerate() {
            let batch = batches.batch(i, false);
            let found = learner.step(&[batch]).expect("a step")[0];
            assert_near(&format!("{name}: loss"), found.sums.cross_entropy(), expected, 1e-4);
            let norm = own.step(&[batch], None).expect("a step").grad_norm;
            assert_near(&format!("{name}: norm"), found.grad_norm, norm, 1e-4);
        }
        let rms = rms_difference(layout, &learner.state().params, &flat(layout, &tensors, "after_3"));
        assert!(rms <= 5e-5, "{name}: after three steps the parameters differ by {rms:.1e}");
    }
}

#[test]
fn muon_accumulation_and_masks_are_those_of_the_own_passes() {
    let Some(folder) = shared("learn") else { return };
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let mut recipe = recipe(constant(0.01));
    recipe.muon = Some(Muon::default());
    let halves = |i: usize| [0..1, 1..ROWS].map(|rows| Batch { rows: batches.rows(i, true, rows), dropout_seed: None });
    for (name, device) in devices() {
        let (mut learner, mut own) = (on(&start, recipe, &[device], 1), own_learner(&start, recipe));
        for i in 0..2 {
            let report = learner.step(&halves(i)).expect("a step")[0];
            let expected = own.step(&halves(i), None).expect("a step");
            assert_eq!(report.sums.n_labels, expected.sums.n_labels);
            assert_near(name, report.sums.cross_entropy(), expected.sums.cross_entropy(), 2e-5);
        }
        let rows = batches.rows(2, true, 0..ROWS);
        let Sums { nll, n_labels, .. } = learner.loss(rows, 2).expect("a loss");
        let expected = own.loss(rows);
        assert_eq!(n_labels, expected.n_labels);
        assert_near(name, nll / n_labels as f64, expected.cross_entropy(), 1e-4);
    }
}

#[test]
fn two_devices_share_the_rows() {
    let Some(folder) = shared("learn") else { return };
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let recipe = recipe(constant(0.01));
    let all: Vec<Device> = devices().into_iter().map(|(_, device)| device).collect();
    let (mut one, mut several) = (on(&start, recipe, &all[..1], 1), on(&start, recipe, &all, 1));
    for i in 0..3 {
        let batch = batches.batch(i, false);
        let (alone, shared) = (one.step(&[batch]).expect("a step")[0], several.step(&[batch]).expect("a step")[0]);
        assert_near("loss", shared.sums.cross_entropy(), alone.sums.cross_entropy(), 1e-5);
        assert_near("norm", shared.grad_norm, alone.grad_norm, 1e-4);
    }
    let alone: Vec<f64> = one.state().params.iter().map(|&x| f64::from(x)).collect();
    let rms = rms_difference(&start.model.layout, &several.state().params, &alone);
    assert!(rms <= 2e-5, "the parameters differ by {rms:.1e}");
}

#[test]
fn losses_are_read_some_steps_at_a_time_and_a_run_goes_on_to_the_bit() {
    let Some(folder) = shared("learn") else { return };
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let recipe = recipe(constant(0.01));
    let device = open(Place::Flex, true).expect("flex");
    let (mut each, mut late) = (on(&start, recipe, from_ref(&device), 1), on(&start, recipe, from_ref(&device), 3));
    let mut expected = Vec::new();
    let mut found = Vec::new();
    for i in 0..4 {
        let i = i % 3;
        expected.extend(each.step(&[batches.batch(i, false)]).expect("a step").iter().map(|r| r.sums.nll));
        let reports = late.step(&[batches.batch(i, false)]).expect("a step");
        assert!(reports.len() == 3 || reports.is_empty());
        found.extend(reports.iter().map(|report| report.sums.nll));
        if i == 1 {
            let state = late.state();
            late.read().expect("numbers").iter().for_each(|report| found.push(report.sums.nll));
            let model = start.model.clone();
            late = DeviceLearner::new(model, recipe, &state, from_ref(&device), Precision::Fp32, 3).expect("again");
        }
    }
    found.extend(late.read().expect("numbers").iter().map(|report| report.sums.nll));
    assert_eq!(found, expected);
    assert_eq!(late.state(), each.state());
}

#[test]
fn products_of_16_bits_learn_the_same() {
    let Some(folder) = shared("learn") else { return };
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let recipe = recipe(constant(0.01));
    let mut n_tried = 0;
    for (name, device) in devices() {
        for precision in [Precision::F16, Precision::Bf16] {
            let state = State::new(start.params.clone());
            let half = DeviceLearner::new(start.model.clone(), recipe, &state, from_ref(&device), precision, 1);
            let mut half = match half {
                Ok(learner) => learner,
                Err(error) => {
                    assert!(error.to_string().contains("precision"), "{error}");
                    continue;
                }
            };
            let mut own = own_learner(&start, recipe);
            n_tried += 1;
            for i in 0..3 {
                let batch = batches.batch(i, false);
                let found = half.step(&[batch]).expect("a step")[0];
                let expected = own.step(&[batch], None).expect("a step");
                let what = format!("{name}, {}", precision.name());
                assert_near(&what, found.sums.cross_entropy(), expected.sums.cross_entropy(), 0.03);
                assert_near(&what, found.grad_norm / expected.grad_norm, 1.0, 0.05);
            }
        }
    }
    assert!(n_tried > 0);
}

#[test]
fn what_a_device_cannot_do_is_told() {
    assert!(Place::named("tpu").unwrap_err().to_string().contains("tpu"));
    let Some(folder) = shared("learn") else { return };
    let mut start = checkpoint(&folder.join("model"));
    start.model.rates.attention = 0.1;
    let device = open(Place::Flex, false).expect("flex");
    let state = State::new(start.params.clone());
    let refused = DeviceLearner::new(start.model, recipe(constant(0.01)), &state, &[device], Precision::Fp32, 1);
    assert!(refused.unwrap_err().to_string().contains("dropout"));
}
