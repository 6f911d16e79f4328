//! Choosing on the device: the same tokens as from the logits, a pass ahead, and what a token costs.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Input, MAX_K};
use gpt2_web::engine::{Cache, Engine, Rows};
use gpt2_web::engine::{Choose, Chosen};
use gpt2_web::sampler::{Sampler, SamplingParams};
use pollster::block_on;

use crate::harness::*;
use crate::run;

fn chosen(gpu: &GpuEngine, cache: &mut <GpuEngine as Engine>::Cache, input: Input, choose: &Choose) -> Chosen {
    let n_new = if let Input::Ids(ids) = input { ids.len() } else { 1 };
    block_on(gpu.make_room(cache, n_new)).expect("room");
    block_on(gpu.chosen(gpu.submit(cache, input, choose).expect("submit"))).expect("chosen")
}

#[test]
fn greedy_two_tokens_ahead_gives_the_golden_ids() {
    for name in ["base", "untied", "odd", "one", "silu"] {
        let expected = json(&golden(&format!("models/{name}/expected.json")));
        let (prompt, greedy) = (ids(&expected["ids"]), ids(&expected["greedy"]));
        let Some(gpu) = Packed::golden(name, Dtype::Fp32).gpu() else { return };
        let (mut cache, choose) = (cache_for(&gpu, prompt.len() + greedy.len() - 1), Choose::default());
        let mut ahead = gpu.submit(&mut cache, Input::Ids(&prompt), &choose).expect("prompt");
        let mut found = Vec::new();
        for i in 0..greedy.len() {
            // the next pass is on its way before this one's id is known
            let next =
                (i + 1 < greedy.len()).then(|| gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("ahead"));
            found.push(block_on(gpu.chosen(ahead)).expect("chosen").id);
            match next {
                Some(next) => ahead = next,
                None => break,
            }
        }
        assert_eq!(found, greedy, "{name}");
        assert_eq!(cache.n_tokens(), prompt.len() + greedy.len() - 1);
    }
}

#[test]
fn the_best_k_are_those_of_the_logits() {
    let config = r#"{"model_type":"gpt2","n_embd":24,"n_head":2,"n_layer":1,"vocab_size":3001,"n_positions":64}"#;
    let packed = Packed::random(Config::from_json(config).expect("config"), Dtype::Q8);
    let Some(gpu) = packed.gpu() else { return };
    for (i, k) in [1, 2, 7, 50, MAX_K].into_iter().enumerate() {
        let id = 100 * i as u32;
        let logits = run(&gpu, &mut gpu.new_cache(), &[id], Rows::Last);
        let mut expected: Vec<(u32, f32)> = logits.iter().copied().zip(0..).map(|(x, id)| (id, x)).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let found = chosen(&gpu, &mut gpu.new_cache(), Input::Ids(&[id]), &Choose { k, ..Default::default() });
        assert_eq!(found.top, expected[..k], "k = {k}");
        assert_eq!((found.id, found.has_bad_logits), (expected[0].0, false));
    }
    let Some(tiny) = Packed::golden("one", Dtype::Fp32).gpu() else { return };
    let found = chosen(&tiny, &mut tiny.new_cache(), Input::Ids(&[3]), &Choose { k: 64, ..Default::default() });
    assert_eq!(found.top.len(), 7, "all that there are");
}

/// A draw from the whole vocabulary: what the device proves is what the sampler draws, and hardly anything is left open.
#[test]
fn a_draw_from_the_whole_vocabulary_is_the_samplers() {
    for name in ["base", "odd", "one"] {
        let packed = Packed::golden(name, Dtype::Fp32);
        let Some(gpu) = packed.gpu() else { return };
        let ids = [1];
        let logits = pollster::block_on(gpu.forward(&mut gpu.new_cache(), &ids, Rows::Last, false)).unwrap().logits;
        let (mut n_proven, mut n_open) = (0, 0);
        for temperature in [0.3_f32, 1.0, 2.5] {
            let params =
                SamplingParams { do_sample: true, temperature: temperature.into(), top_k: 0, ..Default::default() };
            let mut sampler = Sampler::new(params);
            for i in 0..40 {
                let coin = (f64::from(i) + 0.37) / 40.0;
                let choose =
                    Choose { k: 3, do_sample: true, temperature, coin: coin as f32, whole: true, ..Default::default() };
                let found = chosen(&gpu, &mut gpu.new_cache(), Input::Ids(&ids), &choose);
                match found.proven(coin) {
                    Some(id) => {
                        n_proven += 1;
                        assert_eq!(id, sampler.pick(&logits, &ids, 1, coin).unwrap(), "{name}, {temperature}, {coin}");
                    }
                    None => n_open += 1,
                }
            }
        }
        assert!(n_proven > 20 * n_open, "{name}: {n_proven} proven, {n_open} open");
    }
}

#[test]
fn sampling_agrees_with_the_sampler() {
    let Some(gpu) = Packed::golden("base", Dtype::Fp32).gpu() else { return };
    let logits = run(&gpu, &mut gpu.new_cache(), &[5, 6], Rows::Last);
    let mut n_different = 0;
    let mut n = 0;
    for (top_k, top_p, min_p, temperature) in
        [(40, 1.0, 0.0, 1.0), (10, 0.9, 0.0, 0.7), (64, 0.5, 0.1, 2.0), (1, 1.0, 0.0, 1.0)]
    {
        let params = SamplingParams { do_sample: true, temperature, top_k, top_p, min_p, ..Default::default() };
        let mut sampler = Sampler::new(params);
        for i in 0..25 {
            let coin = f64::from(i) / 25.0 + 0.001;
            let expected = sampler.pick(&logits, &[5, 6], 2, coin).expect("pick");
            let [temperature, top_p, min_p, coin] = [temperature, top_p, min_p, coin].map(|x| x as f32);
            let choose = Choose { k: top_k, top_k: 0, do_sample: true, temperature, top_p, min_p, coin, whole: false };
            let found = chosen(&gpu, &mut gpu.new_cache(), Input::Ids(&[5, 6]), &choose);
            n += 1;
            n_different += usize::from(found.id != expected);
        }
    }
    assert!(n_different <= 1, "{n_different} of {n} differ: more than rounding explains");
}

#[test]
fn a_stale_choice_is_an_error() {
    let Some(gpu) = Packed::golden("base", Dtype::Fp32).gpu() else { return };
    let (mut a, mut b, choose) = (cache_for(&gpu, 8), cache_for(&gpu, 8), Choose::default());
    let without_room = gpu.submit(&mut gpu.new_cache(), Input::Ids(&[1]), &choose).err().expect("no room");
    assert_eq!(without_room.code(), "invalid_state");
    let first = gpu.submit(&mut a, Input::Ids(&[1, 2]), &choose).expect("first");
    let second = gpu.submit(&mut b, Input::Ids(&[3]), &choose).expect("second");
    assert_eq!(gpu.submit(&mut a, Input::Chosen(&first), &choose).err().expect("stale").code(), "invalid_state");
    assert!(gpu.submit(&mut b, Input::Chosen(&second), &choose).is_ok());
    let id = block_on(gpu.chosen(first)).expect("chosen").id;
    assert!(gpu.submit(&mut a, Input::Ids(&[id]), &choose).is_ok(), "the host knows the id");
    let last = gpu.submit(&mut a, Input::Ids(&[7]), &choose).expect("last");
    run(&gpu, &mut b, &[8], Rows::Last);
    assert_eq!(gpu.submit(&mut a, Input::Chosen(&last), &choose).err().expect("stale").code(), "invalid_state");
    for bad in [Choose { k: 0, ..choose }, Choose { k: MAX_K + 1, ..choose }, Choose { temperature: 0.0, ..choose }] {
        assert_eq!(gpu.submit(&mut a, Input::Ids(&[1]), &bad).err().expect("out of range").code(), "invalid_option");
    }
}

#[test]
fn logits_that_are_no_numbers_are_told() {
    let mut packed = Packed::golden("base", Dtype::Fp32);
    let row = packed.layout.wte.quants.start + 16; // row 1, column 0
    packed.image[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let Some(gpu) = packed.gpu() else { return };
    assert!(chosen(&gpu, &mut gpu.new_cache(), Input::Ids(&[4]), &Choose::default()).has_bad_logits);
}

#[test]
fn a_token_is_one_submit_of_few_dispatches_and_creates_nothing() {
    let json = r#"{"model_type":"gpt2","n_embd":24,"n_head":2,"n_layer":12,"vocab_size":301,"n_positions":64}"#;
    let packed = Packed::random(Config::from_json(json).expect("config"), Dtype::Fp16);
    let Some(gpu) = packed.gpu() else { return };
    block_on(gpu.warm_up()).expect("warm");
    let (mut cache, choose) = (gpu.new_cache(), Choose { k: 50, ..Default::default() });

    gpu.set_clock(now_ms);

    // from the logits: embed, five a layer, head
    run(&gpu, &mut cache, &[1, 2], Rows::Last);
    let before = gpu.counters();
    for id in 0..8 {
        run(&gpu, &mut cache, &[id], Rows::Last);
    }
    let used = gpu.counters().since(&before);
    assert_eq!((used.n_dispatches, used.n_submits, used.n_objects), (8 * 62, 8, 0));
    assert_eq!(used.read_bytes, 8 * 4 * 301);

    // chosen on the device, a pass ahead: two more, and at most 1 KB back
    let mut ahead = gpu.submit(&mut cache, Input::Ids(&[1]), &choose).expect("first");
    let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("second");
    block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
    let before = gpu.counters();
    for _ in 0..8 {
        let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("ahead");
        block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
    }
    let used = gpu.counters().since(&before);
    assert_eq!((used.n_dispatches, used.n_submits, used.n_objects), (8 * 64, 8, 0));
    assert_eq!(used.read_bytes, 8 * (16 + 8 * 50));

    eprintln!("recording a token of 12 layers takes {:.2} ms", used.encode_ms / 8.0);

    // a prompt's dispatches do not grow with it
    let cost = |n: u32| {
        let ids: Vec<u32> = (0..n).collect();
        let before = gpu.counters();
        run(&gpu, &mut gpu.new_cache(), &ids, Rows::Last);
        gpu.counters().since(&before).n_dispatches
    };
    assert_eq!((cost(2), cost(64)), (86, 86));
}
