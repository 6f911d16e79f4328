//! The backward passes that are written by hand against Burn's autodiff of the reference model, for what the recorded
//! numbers of PyTorch do not have: every nonlinearity, an untied head, and both ways of scaling the attention.
#![cfg(feature = "burn")]

mod common;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use common::*;
use gpt2_web::checkpoint::{Activation, Config};
use gpt2_web::gpt2::{Gpt2, KvCache, Tensors};
use learn::fused::{LaneOptions, Model, Rates, Rows};
use learn::lora::{Base, LoraLearner, LoraRecipe, LoraSettings};
use learn::train::{Batch, Learner, State};

const N_TOKENS: usize = 7;
const IDS: [u32; 2 * N_TOKENS] = [1, 5, 12, 0, 3, 3, 9, 2, 2, 7, 11, 4, 6, 10];
/// A negative one is masked.
const LABELS: [i32; 2 * N_TOKENS] = [5, 12, 0, 3, 3, 9, -100, 2, 7, 11, -100, 6, 10, 1];
/// What the recorded gradients are held to.
const TOLERANCE: f64 = 2e-6;

fn model(activation: Activation, more: &str) -> Model {
    let json = format!(
        r#"{{"model_type":"gpt2","vocab_size":13,"n_positions":7,"n_embd":12,"n_head":3,"n_layer":2,"n_inner":20,
            "activation_function":"{}"{more}}}"#,
        activation.name()
    );
    Model::new(Config::from_json(&json).expect("a configuration"), Rates::default())
}

/// Numbers between -`width` and `width` that a seed decides.
fn numbers(n: usize, width: f32, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        width * ((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..n).map(|_| next()).collect()
}

/// Parameters large enough that every part of the model matters.
fn params(model: &Model) -> Vec<f32> {
    let mut params = numbers(model.layout.n_params, 0.5, 3);
    for slot in model.layout.slots.iter().filter(|slot| slot.name.contains("ln_") && slot.name.ends_with("weight")) {
        params[slot.range.clone()].iter_mut().for_each(|x| *x += 1.0);
    }
    params
}

fn rows() -> Rows<'static> {
    Rows { ids: &IDS, labels: &LABELS, n_tokens: N_TOKENS }
}

fn load(model: &Model, params: &[f32], device: &Device) -> Gpt2 {
    let mut tensors = Tensors::new(device.clone());
    for slot in &model.layout.slots {
        tensors.insert(slot.name.clone(), slot.shape.clone(), params[slot.range.clone()].to_vec());
    }
    Gpt2::load(&mut tensors, &model.config).expect("a model")
}

/// Mean loss of the labels that are not masked, nats.
fn loss(gpt2: &Gpt2, device: &Device) -> Tensor<1> {
    let n_labels = LABELS.iter().filter(|&&label| label >= 0).count();
    let mut sum = Tensor::<1>::zeros([1], device);
    for (ids, labels) in IDS.chunks(N_TOKENS).zip(LABELS.chunks(N_TOKENS)) {
        let hidden = gpt2.hidden(ids, &mut KvCache::new(gpt2.h.len()), None, device);
        let logprobs = log_softmax(gpt2.logits(hidden), 1); // [T, V]
        let places: Vec<i32> = (0..N_TOKENS as i32).filter(|&t| labels[t as usize] >= 0).collect();
        let known: Vec<i32> = labels.iter().copied().filter(|&label| label >= 0).collect();
        let n = known.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), device);
        let known = Tensor::<2, Int>::from_data(TensorData::new(known, [n, 1]), device);
        sum = sum - logprobs.select(0, places).gather(1, known).sum();
    }
    sum / n_labels as f32
}

fn values<const N: usize>(tensor: &Tensor<N>, grads: &Gradients) -> Vec<f64> {
    let grad = tensor.grad(grads).expect("a gradient").into_data();
    grad.try_into_vec_as::<f32>().expect("numbers").into_iter().map(f64::from).collect()
}

/// Burn's gradients in the model's layout.
fn all_gradients(model: &Model, params: &[f32]) -> (f64, Vec<f64>) {
    let device = Device::flex().autodiff();
    let mut gpt2 = load(model, params, &device);
    let mut affine = Vec::new();
    gpt2.wte.weight = gpt2.wte.weight.require_grad();
    gpt2.wpe.weight = gpt2.wpe.weight.require_grad();
    gpt2.lm_head.weight = match model.config.tie_word_embeddings {
        true => gpt2.wte.weight.clone(),
        false => gpt2.lm_head.weight.require_grad(),
    };
    for block in &mut gpt2.h {
        for norm in [&mut block.ln_1, &mut block.ln_2] {
            norm.weight = norm.weight.clone().require_grad();
            norm.bias = norm.bias.clone().require_grad();
        }
        for linear in [&mut block.attn.c_attn, &mut block.attn.c_proj, &mut block.mlp.c_fc, &mut block.mlp.c_proj] {
            linear.weight = linear.weight.clone().require_grad();
            linear.bias = linear.bias.clone().require_grad();
        }
    }
    gpt2.ln_f.weight = gpt2.ln_f.weight.require_grad();
    gpt2.ln_f.bias = gpt2.ln_f.bias.require_grad();
    let loss = loss(&gpt2, &device);
    let grads = loss.backward();
    let layout = &model.layout;
    for (block, at) in gpt2.h.iter().zip(&layout.blocks) {
        for (norm, at) in [(&block.ln_1, &at.ln_1), (&block.ln_2, &at.ln_2)] {
            affine.push((at, values(&norm.weight, &grads), values(&norm.bias, &grads)));
        }
        for (linear, at) in [
            (&block.attn.c_attn, &at.c_attn),
            (&block.attn.c_proj, &at.c_proj),
            (&block.mlp.c_fc, &at.c_fc),
            (&block.mlp.c_proj, &at.mlp_c_proj),
        ] {
            affine.push((at, values(&linear.weight, &grads), values(&linear.bias, &grads)));
        }
    }
    affine.push((&layout.ln_f, values(&gpt2.ln_f.weight, &grads), values(&gpt2.ln_f.bias, &grads)));
    let mut all = vec![f64::NAN; layout.n_params];
    for (at, weight, bias) in affine {
        all[at.weight.clone()].copy_from_slice(&weight);
        all[at.bias.clone()].copy_from_slice(&bias);
    }
    all[layout.wpe.clone()].copy_from_slice(&values(&gpt2.wpe.weight, &grads));
    all[layout.head.clone()].copy_from_slice(&values(&gpt2.lm_head.weight, &grads));
    all[layout.wte.clone()].copy_from_slice(&values(&gpt2.wte.weight, &grads));
    (f64::from(loss.into_scalar::<f32>()), all)
}

#[test]
fn gradients_of_every_kind_of_model_are_those_of_autodiff() {
    const UNTIED: &str = r#","tie_word_embeddings":false"#;
    const INVERSE: &str = r#","scale_attn_by_inverse_layer_idx":true"#;
    const UNSCALED: &str = r#","scale_attn_weights":false"#;
    let kinds = Activation::ALL.map(|activation| (activation, ""));
    let others = [UNTIED, INVERSE, UNSCALED].map(|more| (Activation::GeluNew, more));
    for (activation, more) in kinds.into_iter().chain(others) {
        let model = model(activation, more);
        let start = params(&model);
        let (loss, expected) = all_gradients(&model, &start);
        for (rows_at_once, recompute) in [(2, false), (1, true)] {
            let mut recipe = recipe(constant(0.01));
            recipe.lanes = LaneOptions { n_lanes: 1, rows_at_once, recompute };
            let mut learner = Learner::new(model.clone(), recipe, State::new(start.clone()));
            let (sums, found) = learner.gradients(Batch { rows: rows(), dropout_seed: None }, None);
            let what = format!("{}{more}", activation.name());
            assert_near(&what, sums.cross_entropy(), loss, 1e-5);
            assert_close(&model.layout, &what, found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn gradients_of_an_adapter_are_those_of_autodiff() {
    for activation in Activation::ALL {
        let model = model(activation, "");
        let base = params(&model);
        let target_modules = ["c_attn", "c_proj", "c_fc"].map(String::from).to_vec();
        let settings = LoraSettings { r: 3, target_modules, ..LoraSettings::default() };
        let layout = settings.layout(&model.config).expect("a layout");
        let adapter = numbers(layout.n_params, 0.1, 8);

        let device = Device::flex().autodiff();
        let mut gpt2 = load(&model, &base, &device);
        let mut leaves = Vec::new();
        for (block, parts) in gpt2.h.iter_mut().zip(&layout.blocks) {
            let linears = [&mut block.attn.c_attn, &mut block.attn.c_proj, &mut block.mlp.c_fc, &mut block.mlp.c_proj];
            for (linear, part) in linears.into_iter().zip(parts) {
                let part = part.as_ref().expect("every module has one");
                let [n_in, n_out] = linear.weight.dims();
                let leaf = |range: &std::ops::Range<usize>, shape: [usize; 2]| {
                    let data = TensorData::new(adapter[range.clone()].to_vec(), shape);
                    Tensor::<2>::from_data(data, &device).require_grad()
                };
                let (a, b) = (leaf(&part.a, [part.rank, n_in]), leaf(&part.b, [n_out, part.rank]));
                let added = b.clone().matmul(a.clone()).transpose() * part.scale;
                linear.weight = linear.weight.clone() + added;
                leaves.extend([(part.a.clone(), a), (part.b.clone(), b)]);
            }
        }
        let loss = loss(&gpt2, &device);
        let grads = loss.backward();

        let recipe = recipe(constant(0.01));
        let recipe = LoraRecipe { adamw: recipe.adamw, schedule: recipe.schedule, max_norm: None, lanes: recipe.lanes };
        let mut learner = LoraLearner::new(layout, recipe, State::new(adapter.clone()));
        let (sums, found) = learner.gradients(Base { model: &model, params: &base }, &[rows()]);
        assert_near(activation.name(), sums.cross_entropy(), f64::from(loss.into_scalar::<f32>()), 1e-5);
        for (range, leaf) in leaves {
            for (&found, expected) in found[range].iter().zip(values(&leaf, &grads)) {
                assert_near(activation.name(), f64::from(found), expected, TOLERANCE);
            }
        }
    }
}
