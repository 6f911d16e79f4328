//! How fast a step is: tokens per second of AdamW steps with clipping, the least time of some steps.
//!
//! `cargo bench --locked --profile dev -p gpt2-learn --bench step [-- LANES ROWS_AT_ONCE]`; `docs/training.md` has figures.

use std::time::Instant;

use gpt2_web::checkpoint::Config;
use learn::fused::{LaneOptions, Model, Rates, Rows};
use learn::optim::{AdamW, Muon, Schedule};
use learn::train::{Batch, Learner, Recipe, State};

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (n_lanes, rows_at_once) = (numbers.first().copied().unwrap_or(1), numbers.get(1).copied().unwrap_or(1));
    let demo = (4, 160, 5, 4096, 640, 8, 256);
    let larger = (7, 192, 6, 4096, 704, 16, 512);
    for (layers, width, heads, vocab, inner, rows, tokens) in [demo, larger] {
        let json = format!(
            r#"{{"model_type":"gpt2","n_layer":{layers},"n_embd":{width},"n_head":{heads},"vocab_size":{vocab},"n_positions":{tokens},"n_inner":{inner}}}"#
        );
        let model = Model::new(Config::from_json(&json).expect("config"), Rates::default());
        for (recompute, muon) in [(false, None), (true, None), (false, Some(Muon::default()))] {
            let recipe = Recipe {
                adamw: AdamW::default(),
                muon,
                schedule: Schedule { rate: 1e-4, warmup_steps: 0, steps: 1, last_share: 1.0, cooldown_steps: None },
                max_norm: Some(1.0),
                lanes: LaneOptions { n_lanes, rows_at_once, recompute },
            };
            let start: Vec<f32> =
                (0..model.layout.n_params).map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 4e-5).collect();
            let mut learner = Learner::new(model.clone(), recipe, State::new(start));
            let ids: Vec<u32> = (0..rows * tokens).map(|i| (i * 7919 % vocab) as u32).collect();
            let labels: Vec<i32> = ids.iter().map(|&id| (id as i32 + 1) % vocab as i32).collect();
            let batch = Batch { rows: Rows { ids: &ids, labels: &labels, n_tokens: tokens }, dropout_seed: None };
            let mut least = f64::INFINITY;
            for _ in 0..8 {
                let began = Instant::now();
                learner.step(&[batch], None).expect("step");
                least = least.min(began.elapsed().as_secs_f64());
            }
            let phases = learner.phases;
            println!(
                "{layers}x{width} {rows}x{tokens} lanes {n_lanes} rows at once {rows_at_once} recompute {recompute} muon {}: {:.0} tokens/s ({least:.3} s); forward {:.0?} head {:.0?} backward {:.0?} update {:.0?}",
                muon.is_some(),
                (rows * tokens) as f64 / least,
                phases.pass.forward / 8,
                phases.pass.head / 8,
                phases.pass.backward / 8,
                phases.update / 8
            );
        }
    }
}
