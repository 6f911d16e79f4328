//! One step, three steps and whole curves against PyTorch's numbers, within tolerances that are known to notice each
//! usual mistake: the README beside the numbers says which.

mod common;

use common::*;
use learn::optim::{Schedule, clip_factor, norm};
use learn::train::Batch;

#[test]
fn gradients_of_one_step() {
    let Some(folder) = shared("learn") else { return };
    let (json, tensors) = (json(&folder.join("step.json")), tensors(&folder.join("step.safetensors")));
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let layout = &start.model.layout;
    for (n_lanes, rows_at_once, recompute) in [(1, 4, false), (2, 1, true), (3, 2, false)] {
        let mut recipe = recipe(constant(0.01));
        recipe.lanes = learn::fused::LaneOptions { n_lanes, rows_at_once, recompute };
        let mut learner = learner(&start, recipe);
        let (sums, grads) = learner.gradients(batches.batch(0, false), None);
        assert_near("loss", sums.cross_entropy(), json["loss"].as_f64().unwrap(), 1e-5);
        assert_close(layout, "grad", grads, &flat(layout, &tensors, "grad"), 2e-6);
        let grad_norm = norm(grads);
        assert_near("norm", grad_norm, json["grad_norm"].as_f64().unwrap(), 1e-5);
        let factor = clip_factor(grad_norm, Some(1.0));
        let clipped: Vec<f32> = grads.iter().map(|g| g * factor).collect();
        assert_close(layout, "clipped", &clipped, &flat(layout, &tensors, "clipped"), 2e-6);

        let (sums, grads) = learner.gradients(batches.batch(0, true), None);
        let masked = &json["masked"];
        assert_near("masked loss", sums.cross_entropy(), masked["loss"].as_f64().unwrap(), 1e-5);
        assert_eq!(sums.n_labels as u64, masked["labels_that_count"].as_u64().unwrap());
        assert_near("masked norm", norm(grads), masked["grad_norm"].as_f64().unwrap(), 1e-5);
        assert_close(layout, "masked_grad", grads, &flat(layout, &tensors, "masked_grad"), 2e-6);
    }
}

#[test]
fn parameters_after_one_and_three_steps() {
    let Some(folder) = shared("learn") else { return };
    let (json, tensors) = (json(&folder.join("step.json")), tensors(&folder.join("step.safetensors")));
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let layout = &start.model.layout;
    let mut learner = learner(&start, recipe(constant(0.01)));
    let losses = floats(&json["three_steps"]["loss"]);
    for (i, expected) in losses.iter().enumerate() {
        let report = learner.step(&[batches.batch(i, false)], None).unwrap();
        assert_near("loss", report.sums.cross_entropy(), *expected, 1e-4);
        if i == 0 {
            let (expected, clipped) = (flat(layout, &tensors, "after_1"), flat(layout, &tensors, "clipped"));
            let unused = layout.wpe.start + TOKENS * start.model.config.n_embd..layout.wpe.end;
            for (at, (&found, expected)) in learner.state.params.iter().zip(&expected).enumerate() {
                let is_close = clipped[at].abs() >= 1e-5 || unused.contains(&at);
                let tolerance = if is_close { 2e-6 } else { 0.02 };
                assert_near(&format!("after_1[{at}]"), f64::from(found), *expected, tolerance);
            }
        }
    }
    let rms = rms_difference(layout, &learner.state.params, &flat(layout, &tensors, "after_3"));
    assert!(rms <= 5e-5, "after_3 differs by {rms:.1e}");
}

#[test]
fn curves_with_accumulation_and_masks() {
    let Some(folder) = shared("learn") else { return };
    let json = json(&folder.join("curve.json"));
    let batches = Batches::read(&folder);
    let start = checkpoint(&folder.join("model"));
    let trained = checkpoint(&folder.join("trained"));
    for (name, is_masked, micro) in [
        ("plain", false, false),
        ("plain_accumulated", false, true),
        ("masked", true, false),
        ("masked_accumulated", true, true),
    ] {
        let schedule = Schedule { rate: 0.01, warmup_steps: 10, steps: 50, last_share: 0.1, cooldown_steps: None };
        let mut learner = learner(&start, recipe(schedule));
        let curve = &json[name];
        let (losses, rates, norms) = (floats(&curve["loss"]), floats(&curve["lr"]), floats(&curve["grad_norm"]));
        assert_eq!(losses.len(), 50);
        for step in 0..50 {
            let n_rows = if micro { 1 } else { ROWS };
            let parts: Vec<Batch> = (0..ROWS)
                .step_by(n_rows)
                .map(|row| Batch { rows: batches.rows(step, is_masked, row..row + n_rows), dropout_seed: None })
                .collect();
            let report = learner.step(&parts, None).unwrap();
            let what = format!("{name}, step {step}");
            assert_near(&what, report.sums.cross_entropy(), losses[step], 5e-5);
            assert_near(&what, report.rate, rates[step], 1e-9);
            assert_near(&what, report.grad_norm, norms[step], 3e-4);
        }
        if name == "plain" {
            let expected: Vec<f64> = trained.params.iter().map(|&x| f64::from(x)).collect();
            let rms = rms_difference(&start.model.layout, &learner.state.params, &expected);
            assert!(rms <= 2e-5, "after 50 steps: differs by {rms:.1e}");
        }
    }
}
