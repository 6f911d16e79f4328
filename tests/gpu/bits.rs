//! The same bits, however a text is cut into passes, whatever ran before, and however the work is spread.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Tuning};
use gpt2_web::engine::{Cache, Engine, Rows};

use crate::harness::*;
use crate::run;

pub fn config(json: &str) -> Config {
    Config::from_json(&format!(r#"{{"model_type":"gpt2",{json}}}"#)).expect("config")
}

pub fn ids(n: usize, config: &Config) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + 3 * i + 1) % config.vocab_size as u32).collect()
}

/// Panics unless all bits are the same.
#[track_caller]
pub fn assert_same_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let n = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let first = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    if let Some(i) = first {
        panic!("{what}: {n} of {} differ, first value {i}: {} and {}", found.len(), found[i], expected[i]);
    }
}

/// Logits of all rows, the text cut after so many tokens each time; what is left is the last piece.
fn in_pieces(gpu: &GpuEngine, ids: &[u32], cuts: &[usize]) -> Vec<f32> {
    let (mut cache, mut logits, mut rest) = (gpu.new_cache(), Vec::new(), ids);
    for &n in cuts {
        let (piece, after) = rest.split_at(n.min(rest.len()));
        rest = after;
        if !piece.is_empty() {
            logits.extend(run(gpu, &mut cache, piece, Rows::All));
        }
    }
    if !rest.is_empty() {
        logits.extend(run(gpu, &mut cache, rest, Rows::All));
    }
    logits
}

/// Shapes whose heads, rows and segments are no multiple of anything, and one like GPT-2's own.
fn shapes() -> Vec<Config> {
    vec![
        config(r#""n_embd":65,"n_head":5,"n_layer":2,"n_inner":131,"vocab_size":203,"n_positions":80"#),
        config(r#""n_embd":192,"n_head":3,"n_layer":2,"vocab_size":130,"n_positions":200"#),
        config(r#""n_embd":36,"n_head":3,"n_layer":1,"n_inner":2085,"vocab_size":130,"n_positions":70"#),
        config(r#""n_embd":602,"n_head":2,"n_layer":1,"n_inner":70,"vocab_size":77,"n_positions":70"#),
    ]
}

#[test]
fn every_split_of_a_text_gives_the_same_bits() {
    for config in shapes() {
        for dtype in Dtype::ALL {
            let packed = Packed::random(config.clone(), dtype);
            let Some(gpu) = packed.gpu() else { return };
            let ids = ids(70, &config);
            let whole = in_pieces(&gpu, &ids, &[]);
            for cuts in [&[1; 70][..], &[2; 35], &[1, 30, 1, 33], &[63, 1, 1], &[64], &[65, 4], &[17, 16, 15, 14]] {
                let what = format!("C = {}, {}, {:?}", config.n_embd, dtype.name(), &cuts[..cuts.len().min(4)]);
                assert_same_bits(&what, &in_pieces(&gpu, &ids, cuts), &whole);
            }
        }
    }
}

#[test]
fn every_tuning_gives_the_same_bits() {
    let has_f16 = device_having(wgpu::Features::SHADER_F16).is_some();
    let features = if has_f16 { wgpu::Features::SHADER_F16 } else { wgpu::Features::empty() };
    let config = shapes().swap_remove(1);
    for dtype in Dtype::ALL {
        let packed = Packed::random(config.clone(), dtype);
        let ids = ids(67, &config);
        let Some(device) = device_that(wgpu::Limits::default(), features) else { return };
        let usual = packed.on(device.clone());
        let expected = in_pieces(&usual, &ids, &[1, 1, 40, 1]);
        let halves = Tuning { tile_f16: true, ..Tuning::default() };
        let of_halves = (has_f16 && dtype != Dtype::Fp32).then_some(halves);
        for tuning in Tuning::variants().into_iter().chain(of_halves) {
            let gpu = packed.tuned(device.clone(), tuning);
            let what = format!("{}, {tuning:?}", dtype.name());
            assert_same_bits(&what, &in_pieces(&gpu, &ids, &[1, 1, 40, 1]), &expected);
        }
    }
}

/// Rewinding, cloning and replaying leave what a fresh computation gives; so do texts of several pieces of keys.
#[test]
fn a_used_cache_gives_the_bits_of_a_fresh_one() {
    // a window so long that a piece of the keys has two tiles
    let config = config(r#""n_embd":48,"n_head":3,"n_layer":2,"vocab_size":90,"n_positions":1100"#);
    let packed = Packed::random(config.clone(), Dtype::Q8);
    let Some(gpu) = packed.gpu() else { return };
    let ids = ids(700, &config);
    let mut whole = gpu.new_cache();
    let last = run(&gpu, &mut whole, &ids, Rows::Last);
    for cut in [699, 698, 640, 641, 513, 512, 300, 129, 128, 127, 65, 64, 63, 1] {
        let mut fresh = gpu.new_cache();
        run(&gpu, &mut fresh, &ids[..cut], Rows::None);
        assert_same_bits(&format!("cut at {cut}"), &run(&gpu, &mut fresh, &ids[cut..], Rows::Last), &last);
        let one = run(&gpu, &mut gpu.new_cache(), &ids[..=cut], Rows::Last);
        let mut rewound = whole.clone();
        rewound.truncate(cut);
        run(&gpu, &mut rewound, &[1, 2, 3], Rows::None); // something else in the meantime
        rewound.truncate(cut);
        assert_same_bits(&format!("rewound to {cut}"), &run(&gpu, &mut rewound, &ids[cut..=cut], Rows::Last), &one);
        if cut < 699 {
            let after = run(&gpu, &mut rewound, &ids[cut + 1..], Rows::Last);
            assert_same_bits(&format!("rewound to {cut}, the rest"), &after, &last);
        }
    }
}
