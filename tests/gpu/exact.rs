//! What the engine computes from packed weights, against the oracle over the same weights unpacked: every format, on
//! sizes that are no multiple of anything, for every way of cutting the work.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Plan};
use gpt2_web::engine::{Cache, Engine, Rows};
use pollster::block_on;

use crate::harness::*;
use crate::oracle::Oracle;
use crate::run;

/// What sums in f32 may differ by from sums in f64, for logits of this size.
fn tolerance(expected: &[f32]) -> f32 {
    2e-5 * expected.iter().fold(1.0, |m: f32, x| m.max(x.abs()))
}

fn config(json: &str) -> Config {
    Config::from_json(&format!(r#"{{"model_type":"gpt2",{json}}}"#)).expect("config")
}

/// Shapes that reach the far ends of the kernels: odd heads, a hidden layer beyond one tile, heads wider than 64 lanes.
fn nasty() -> Vec<(&'static str, Config)> {
    vec![
        ("odd heads", config(r#""n_embd":65,"n_head":5,"n_layer":2,"n_inner":131,"vocab_size":1003,"n_positions":40"#)),
        (
            "two tiles",
            config(
                r#""n_embd":36,"n_head":3,"n_layer":1,"n_inner":2085,"vocab_size":130,"n_positions":33,"activation_function":"silu""#,
            ),
        ),
        ("a wide head", config(r#""n_embd":602,"n_head":2,"n_layer":1,"n_inner":70,"vocab_size":77,"n_positions":18"#)),
        (
            "a wide stream",
            config(r#""n_embd":2080,"n_head":32,"n_layer":1,"n_inner":33,"vocab_size":65,"n_positions":5"#),
        ),
    ]
}

fn prompt(config: &Config, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + 3 * i + 1) % config.vocab_size as u32).collect()
}

fn check(what: &str, packed: &Packed, ids: &[u32]) -> f32 {
    let oracle = Oracle { config: &packed.config, layout: &packed.layout, image: &packed.image };
    let expected: Vec<f32> = oracle.logits(ids).into_iter().flatten().map(|x| x as f32).collect();
    let Some(gpu) = packed.gpu() else { return 0.0 };
    let prefill = run(&gpu, &mut gpu.new_cache(), ids, Rows::All);
    let worst = assert_close(&format!("{what}, prefill"), &prefill, &expected, tolerance(&expected));
    let mut cache = gpu.new_cache();
    let decode: Vec<f32> = ids.iter().flat_map(|&id| run(&gpu, &mut cache, &[id], Rows::Last)).collect();
    worst.max(assert_close(&format!("{what}, decode"), &decode, &expected, tolerance(&expected)))
}

#[test]
fn golden_models_in_every_format() {
    for dtype in Dtype::ALL {
        let mut worst = 0.0_f32;
        for name in ["base", "untied", "gelu", "relu", "tanh", "inverse_layer", "unscaled", "odd", "one"] {
            let packed = Packed::golden(name, dtype);
            let ids = ids(&json(&golden(&format!("models/{name}/expected.json")))["ids"]);
            worst = worst.max(check(&format!("{name} {}", dtype.name()), &packed, &ids));
        }
        eprintln!("{} against its unpacked weights: off by {worst:.1e} at most", dtype.name());
    }
}

#[test]
fn nasty_sizes_in_every_format() {
    for (name, config) in nasty() {
        for dtype in Dtype::ALL {
            let packed = Packed::random(config.clone(), dtype);
            let worst =
                check(&format!("{name} {}", dtype.name()), &packed, &prompt(&config, 35.min(config.n_positions)));
            eprintln!("{name} {}: off by {worst:.1e} at most", dtype.name());
        }
    }
}

/// Beyond one pass of prefill, beyond one tile of the decoding attention, with every number of pieces of the keys.
#[test]
fn a_long_text() {
    let config = config(r#""n_embd":24,"n_head":2,"n_layer":2,"vocab_size":90,"n_positions":1300"#);
    let packed = Packed::random(config, Dtype::Fp32);
    let ids = prompt(&packed.config, 1290);
    let oracle = Oracle { config: &packed.config, layout: &packed.layout, image: &packed.image };
    let expected: Vec<Vec<f32>> =
        oracle.logits(&ids).into_iter().map(|row| row.into_iter().map(|x| x as f32).collect()).collect();
    let Some(gpu) = packed.gpu() else { return };
    let all = run(&gpu, &mut gpu.new_cache(), &ids, Rows::All);
    let tolerance = tolerance(&expected.concat());
    assert_close("all rows", &all, &expected.concat(), tolerance);
    let mut cache = gpu.new_cache();
    let last = run(&gpu, &mut cache, &ids[..1289], Rows::Last);
    assert_close("the last row", &last, &expected[1288], tolerance);
    for n_past in [1289, 1024, 700, 513, 512, 511, 449, 129, 128, 64, 63, 1] {
        cache.truncate(n_past);
        let found = run(&gpu, &mut cache, &ids[n_past..=n_past], Rows::Last);
        assert_close(&format!("after {n_past}"), &found, &expected[n_past], tolerance);
    }
}

#[test]
fn every_split_of_a_prompt_gives_the_same_logits() {
    let packed = Packed::golden("odd", Dtype::Fp32);
    let Some(gpu) = packed.gpu() else { return };
    let ids = ids(&json(&golden("models/odd/expected.json"))["ids"]);
    let mut whole = gpu.new_cache();
    let expected = run(&gpu, &mut whole, &ids, Rows::Last);
    for cut in 1..ids.len() {
        let mut cache = gpu.new_cache();
        assert!(run(&gpu, &mut cache, &ids[..cut], Rows::None).is_empty());
        let found = run(&gpu, &mut cache, &ids[cut..], Rows::Last);
        assert_close(&format!("cut at {cut}"), &found, &expected, 1e-5);

        let mut rewound = whole.clone();
        rewound.truncate(cut);
        run(&gpu, &mut rewound, &[1], Rows::None); // something else in the meantime
        rewound.truncate(cut);
        let found = run(&gpu, &mut rewound, &ids[cut..], Rows::Last);
        assert_close(&format!("truncated to {cut}"), &found, &expected, 1e-5);
    }
    assert_eq!(whole.n_tokens(), ids.len(), "a clone's changes are its own");
    let next = run(&gpu, &mut whole, &[1], Rows::Last);
    let mut fresh = gpu.new_cache();
    let again = run(&gpu, &mut fresh, &[&ids[..], &[1]].concat(), Rows::Last);
    assert_close("after the clones", &next, &again, 1e-5);
}

/// Texts share the scratch buffers, and only those.
#[test]
fn texts_in_turn_do_not_disturb_each_other() {
    let Some(gpu) = Packed::golden("base", Dtype::Fp32).gpu() else { return };
    let texts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6], &[90, 80, 70, 60, 50, 40], &[7, 7, 7, 7, 7, 7]];
    let alone = texts.map(|ids| {
        let mut cache = gpu.new_cache();
        ids.iter().flat_map(|&id| run(&gpu, &mut cache, &[id], Rows::Last)).collect::<Vec<f32>>()
    });
    let mut caches = texts.map(|_| gpu.new_cache());
    let mut in_turn = texts.map(|_| Vec::new());
    for i in 0..texts[0].len() {
        for (t, ids) in texts.iter().enumerate() {
            in_turn[t].extend(run(&gpu, &mut caches[t], &ids[i..=i], Rows::Last));
        }
    }
    assert_eq!(in_turn, alone);
}

#[test]
fn attention_weights_come_when_asked_for() {
    for name in ["base", "odd", "inverse_layer"] {
        let folder = golden(&format!("models/{name}"));
        let Some(gpu) = Packed::folder(&folder, Dtype::Fp32).gpu() else { return };
        let ids = ids(&json(&folder.join("expected.json"))["ids"]);
        let expected = tensors(&folder.join("expected.safetensors"));
        let forward = |cache: &mut _, ids: &[u32]| {
            let output = block_on(gpu.forward(cache, ids, Rows::None, true)).expect("forward");
            assert!(output.logits.is_empty());
            output.attentions.expect("attentions")
        };
        let whole = forward(&mut gpu.new_cache(), &ids);
        let mut cache = gpu.new_cache();
        let (n, n_head) = (ids.len(), gpu.config().n_head);
        run(&gpu, &mut cache, &ids[..n - 1], Rows::None);
        let newest = forward(&mut cache, &ids[n - 1..]);
        for (i, (weights, newest)) in whole.iter().zip(&newest).enumerate() {
            let of_layer = |(key, _): &&(String, Vec<f32>)| *key == format!("h.{i}.attn.weights");
            assert_close(name, weights, &expected.iter().find(of_layer).expect("weights").1, 1e-5);
            for head in 0..n_head {
                let row = &weights[(head * n + n - 1) * n..][..n];
                assert_close(name, &newest[head * n..][..n], row, 1e-5);
            }
        }
    }
}

/// Quants beyond one binding, weights beyond one buffer, buffers written and read across their borders.
#[test]
fn small_bindings_change_nothing() {
    let config = config(r#""n_embd":64,"n_head":4,"n_layer":2,"vocab_size":4003,"n_positions":40"#);
    for dtype in Dtype::ALL {
        let packed = Packed::random(config.clone(), dtype);
        let third = packed.layout.wte.quants.len().next_multiple_of(1024) as u64 / 3;
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: third,
            max_buffer_size: third + 4096,
            ..Default::default()
        };
        assert!(Plan::new(&packed.layout, &limits).expect("plan").buffers.len() > 3);
        let Some(usual) = packed.gpu() else { return };
        let small = packed.on(device_with(limits).expect("device"));
        let ids = prompt(&config, 30);
        let run_on = |gpu: &GpuEngine| {
            let mut cache = gpu.new_cache();
            [run(gpu, &mut cache, &ids, Rows::All), run(gpu, &mut cache, &[4002], Rows::Last)].concat()
        };
        assert_eq!(run_on(&small), run_on(&usual), "{}", dtype.name());
    }
}
