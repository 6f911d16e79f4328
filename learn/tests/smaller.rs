//! Smaller models from larger ones, against PyTorch's numbers: distillation, importance, pruned models.

mod common;

use std::path::Path;

use common::*;
use learn::checkpoint::{Checkpoint, Stored, write_folder};
use learn::fused::{Softened, Teacher, Workspace, importance};
use learn::optim::{AdamW, norm};
use learn::prune::{least, without_neurons, zero_heads, zero_least};
use serde_json::Value;

fn indices(json: &Value) -> Vec<usize> {
    json.as_array().expect("a list").iter().map(|x| x.as_u64().expect("an index") as usize).collect()
}

#[test]
fn a_student_learns_from_its_teacher() {
    let Some(folder) = shared("learn") else { return };
    let (json, tensors) = (json(&folder.join("distill.json")), tensors(&folder.join("distill.safetensors")));
    let batches = Batches::read(&folder);
    let (teacher, student) = (checkpoint(&folder.join("trained")), checkpoint(&folder.join("distill-student")));
    let layout = &student.model.layout;
    let alpha = json["alpha"].as_f64().unwrap();
    let of = |temperature: f64| Teacher {
        model: &teacher.model,
        params: &teacher.params,
        softened: Softened { alpha: alpha as f32, temperature: temperature as f32 },
    };
    let loss = |ce: f64, kl: f64, t: f64| alpha * ce + (1.0 - alpha) * t * t * kl;
    for name in ["t2", "t3"] {
        let expected = &json[name];
        let number = |field: &str| expected[field].as_f64().unwrap();
        let t = number("temperature");
        let mut learner = learner(&student, recipe(constant(0.005)));
        let (sums, grads) = learner.gradients(batches.batch(0, false), Some(of(t)));
        let kl = sums.kl / sums.n_labels as f64;
        assert_near("cross-entropy", sums.cross_entropy(), number("cross_entropy"), 2e-5);
        assert_near("KL", kl, number("kl"), 2e-5);
        assert_near("loss", loss(sums.cross_entropy(), kl, t), number("loss"), 2e-5);
        assert_near("norm", norm(grads), number("grad_norm"), 2e-5);
        assert_close(layout, name, grads, &flat(layout, &tensors, &format!("{name}.grad")), 2e-6);
    }

    let curve = &json["curve"];
    let t = curve["temperature"].as_f64().unwrap();
    let mut learner = learner(&student, recipe(constant(curve["lr"].as_f64().unwrap())));
    assert_eq!(learner.recipe.adamw, AdamW::default());
    for (step, expected) in floats(&curve["loss"]).into_iter().enumerate() {
        let sums = learner.step(&[batches.batch(step, false)], Some(of(t))).unwrap().sums;
        let found = loss(sums.cross_entropy(), sums.kl / sums.n_labels as f64, t);
        assert_near(&format!("step {step}"), found, expected, 1e-4);
    }
}

/// Importance in the last eight batches.
fn importance_of(folder: &Path, trained: &Checkpoint) -> learn::fused::FactorGradients {
    let batches = Batches::read(folder);
    let last: Vec<_> = (52..60).map(|i| batches.batch(i, false).rows).collect();
    let last: Vec<_> = last.iter().map(|rows| (rows.ids.to_vec(), rows.labels.to_vec())).collect();
    importance(&trained.model, &trained.params, &last, TOKENS)
}

#[test]
fn importance_of_heads_and_neurons() {
    let Some(folder) = shared("learn") else { return };
    let json = json(&folder.join("prune.json"));
    let found = importance_of(&folder, &checkpoint(&folder.join("trained")));
    for (name, found) in [("head_importance", &found.heads), ("neuron_importance", &found.neurons)] {
        let expected: Vec<Vec<f64>> = json[name].as_array().unwrap().iter().map(floats).collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            for (&found, &expected) in found.iter().zip(expected) {
                assert_near(name, found, expected, 1e-4 * expected);
            }
        }
    }
}

#[test]
fn pruned_models_are_pytorchs() {
    let Some(folder) = shared("learn") else { return };
    let (json, tensors) = (json(&folder.join("prune.json")), tensors(&folder.join("prune.safetensors")));
    let prompt: Vec<u32> =
        common::tensors(&folder.join("batches.safetensors"))["prompt"].iter().map(|&id| id as u32).collect();
    let batches = Batches::read(&folder);
    let trained = checkpoint(&folder.join("trained"));
    let found = importance_of(&folder, &trained);
    let removed = &json["removed"];

    let neurons: Vec<Vec<usize>> = found.neurons.iter().map(|values| least(values, 32)).collect();
    let expected: Vec<_> = removed["neurons_of_each_layer"].as_array().unwrap().iter().map(indices).collect();
    assert_eq!(neurons, expected);
    let of_each: Vec<usize> = found.heads.iter().map(|values| least(values, 1)[0]).collect();
    assert_eq!(of_each, indices(&removed["head_of_each_layer"]));
    let two: Vec<(usize, usize)> = least(&found.heads.concat(), 2).into_iter().map(|i| (i / 4, i % 4)).collect();
    let expected = removed["two_heads_of_all"].as_array().unwrap().iter().map(indices);
    assert_eq!(two, expected.map(|pair| (pair[0], pair[1])).collect::<Vec<_>>());

    let without = |gone: &[(usize, usize)]| {
        let mut pruned = trained.clone();
        zero_heads(&pruned.model, &mut pruned.params, gone);
        pruned
    };
    let mut magnitude = trained.clone();
    let n_zeros = zero_least(&magnitude.model, &mut magnitude.params, 0.5);
    let zeros = json["magnitude"]["zeros"].as_object().unwrap();
    assert_eq!(n_zeros as u64, zeros.values().map(|n| n.as_u64().unwrap()).sum::<u64>());
    let small = without_neurons(&trained, &neurons).unwrap();
    assert_eq!(small.model.config.n_inner as u64, json["n_inner_after"].as_u64().unwrap());
    assert_eq!(small.params, checkpoint(&folder.join("pruned")).params);

    let of_each: Vec<(usize, usize)> = of_each.into_iter().enumerate().collect();
    for (name, model) in [
        ("before", &trained),
        ("neurons_removed", &small),
        ("one_head_per_layer", &without(&of_each)),
        ("two_heads_of_all", &without(&two)),
        ("magnitude", &magnitude),
    ] {
        let logits = model.model.logits(&model.params, &prompt, prompt.len(), &mut Workspace::default());
        for (i, (&found, &expected)) in logits.iter().zip(&tensors[name]).enumerate() {
            assert_near(&format!("{name}, logit {i}"), f64::from(found), expected, 1e-4);
        }
        let mut learner = learner(model, recipe(constant(0.01)));
        let held_out = (50..60).map(|i| learner.loss(batches.batch(i, false).rows));
        let loss = held_out.fold(Default::default(), learn::fused::Sums::and).cross_entropy();
        assert_near(name, loss, json["held_out_loss"][name].as_f64().unwrap(), 5e-5);
    }
}

#[test]
fn a_smaller_model_is_a_checkpoint_like_any_other() {
    let Some(folder) = shared("learn") else { return };
    let trained = checkpoint(&folder.join("trained"));
    let small = without_neurons(&trained, &[vec![0, 5, 127], vec![1, 2, 3]]).unwrap();
    let out = tempfile::tempdir().unwrap();
    write_folder(out.path(), &small.config_json, &small.model.layout, &small.params, Stored::F32, &[]).unwrap();
    let again = checkpoint(out.path());
    assert_eq!((again.model.config.n_inner, &again.params), (125, &small.params));
    for gone in [vec![vec![0]], vec![vec![0], vec![]], vec![vec![128], vec![0]]] {
        let error = without_neurons(&trained, &gone).unwrap_err().to_string();
        assert!(error.contains("option `neurons`"), "{error}");
    }
}
