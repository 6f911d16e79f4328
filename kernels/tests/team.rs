//! Several threads compute the same as one, to the bit.
#![cfg(not(target_arch = "wasm32"))]

use std::sync::atomic::AtomicU32;
use std::thread;

use gpt2_kernels::forward::Pass;
use gpt2_kernels::pack::{Packer, write_into};
use gpt2_kernels::team::Platform;
use gpt2_kernels::{Activation, Dims, Dtype, Forward, Output, PackedModel, Rows};

/// A thread that should sleep lets others run instead.
enum Yielding {}

impl Platform for Yielding {
    fn sleep(_: &AtomicU32, _: u32) {
        thread::yield_now();
    }
    fn wake(_: &AtomicU32) {}
}

/// A model of this dtype with weights that look random.
fn model(dtype: Dtype) -> PackedModel {
    let dims = Dims {
        vocab_size: 103,
        n_positions: 150,
        n_embd: 40,
        n_layer: 2,
        n_head: 5,
        n_inner: 90,
        activation: Activation::GeluNew,
        layer_norm_epsilon: 1e-5,
        scale_attn_weights: true,
        scale_attn_by_inverse_layer_idx: true,
        tie_word_embeddings: true,
    };
    let mut model = PackedModel::new(dims, dtype).expect("a model");
    let mut packer = Packer::new(model.layout().clone());
    let mut names = vec![("wte.weight".to_string(), 103 * 40), ("wpe.weight".to_string(), 150 * 40)];
    for i in 0..2 {
        for (name, inputs, outputs) in
            [("attn.c_attn", 40, 120), ("attn.c_proj", 40, 40), ("mlp.c_fc", 40, 90), ("mlp.c_proj", 90, 40)]
        {
            names.push((format!("h.{i}.{name}.weight"), inputs * outputs));
            names.push((format!("h.{i}.{name}.bias"), outputs));
        }
        for name in ["ln_1", "ln_2"] {
            names.extend(["weight", "bias"].map(|part| (format!("h.{i}.{name}.{part}"), 40)));
        }
    }
    names.extend(["weight", "bias"].map(|part| (format!("ln_f.{part}"), 40)));
    for (seed, (name, n)) in names.iter().enumerate() {
        let values: Vec<f32> = (0..*n).map(|i| ((i * 31 + seed * 17) as f32 * 0.7).sin() * 0.2).collect();
        assert!(packer.begin(name).expect("room"), "{name}");
        packer.values(&values, &mut write_into(model.image_mut()));
        packer.end(&mut write_into(model.image_mut()));
    }
    model
}

/// Pauses after every stage.
enum Pausing {}

impl Platform for Pausing {
    fn sleep(_: &AtomicU32, _: u32) {
        thread::yield_now();
    }
    fn wake(_: &AtomicU32) {}
    fn should_pause() -> bool {
        true
    }
}

/// Three texts, one after the other in one cache. → their outputs, and how often the team paused
fn run<P: Platform>(model: &PackedModel, n_members: usize) -> (Vec<Output>, usize) {
    let ids: Vec<u32> = (0..100).map(|i| i * 37 % 103).collect(); // more than one pass
    let (mut scratch, mut cache) = (model.scratch(n_members), model.new_cache());
    let mut n_pauses = 0;
    let output = |ids: &[u32]| {
        let mut forward = Forward::new(ids.to_vec(), Rows::All, true);
        let mut team = |pass: &Pass| {
            thread::scope(|scope| {
                (1..n_members).for_each(|member| drop(scope.spawn(move || pass.run::<P>(member))));
                pass.run::<P>(0);
            });
        };
        while !model.forward(&mut forward, &mut scratch, std::slice::from_mut(&mut cache), &mut team) {
            n_pauses += 1;
        }
        forward.outputs.swap_remove(0)
    };
    let outputs = [&ids[..90], &ids[90..99], &ids[99..]].map(output).to_vec();
    (outputs, n_pauses)
}

#[test]
fn a_team_of_any_size_computes_the_same() {
    for dtype in Dtype::ALL {
        let model = model(dtype);
        let (alone, n_pauses) = run::<Yielding>(&model, 1);
        assert!(alone.iter().all(|o| o.logits.iter().all(|x| x.is_finite())));
        assert_eq!(n_pauses, 0);
        for n_members in [2, 3, 7] {
            assert_eq!(run::<Yielding>(&model, n_members).0, alone, "{} with {n_members} threads", dtype.name());
        }
    }
}

#[test]
fn pauses_change_nothing() {
    for dtype in [Dtype::Fp32, Dtype::Q8] {
        let model = model(dtype);
        let (whole, _) = run::<Yielding>(&model, 1);
        for n_members in [1, 3] {
            let (parts, n_pauses) = run::<Pausing>(&model, n_members);
            // each of four passes pauses after its embedding and after five stages of two blocks; the head is done
            // eight tokens at a time, and there is no pause after the last stage of a pass
            assert_eq!(n_pauses, 4 * 11 + (8 - 1) + (4 - 1) + (2 - 1), "{}", dtype.name());
            assert_eq!(parts, whole, "{} with {n_members} threads", dtype.name());
        }
    }
}
