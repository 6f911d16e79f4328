//! What a smaller format costs: perplexity, divergence and agreement with fp32, on text that the demo model never saw.
//!
//! The first few windows of it; `./build.sh bench quality` takes them all and prints the table of the README.

mod common;

use std::path::Path;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::engine::{Engine, Rows};
use gpt2_web::sampler::argmax;
use gpt2_web::tokenizer::Tokenizer;
use pollster::block_on;

/// Natural-log probabilities. logits: `[V]`
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    logits.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

#[derive(Default)]
struct Sums {
    n: usize,
    nll: f64,
    /// Σ KL(fp32 ‖ this)
    divergence: f64,
    n_agree: usize,
}

#[test]
fn smaller_formats_cost_little() {
    let Some(text_path) = shared("eval/heldout-tales.txt") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo");
    let json = std::fs::read(folder.join("tokenizer.json")).expect("tokenizer.json");
    let ids = Tokenizer::from_tokenizer_json(&json).expect("tokenizer").encode(&text(&text_path)).expect("encode");
    let engines = Dtype::ALL.map(|dtype| cpu(&folder, dtype));
    let (n_ctx, v) = (engines[0].config().n_positions, engines[0].config().vocab_size);

    let mut sums = Dtype::ALL.map(|_| Sums::default());
    let n_windows = if std::env::var_os("GPT2_WEB_QUALITY_ALL").is_some() { usize::MAX } else { 20 };
    for window in ids.chunks(n_ctx).filter(|w| w.len() > 1).take(n_windows) {
        let logits = engines.each_ref().map(|engine| {
            block_on(engine.forward(&mut engine.new_cache(), window, Rows::All, false)).expect("forward").logits
        });
        for t in 0..window.len() - 1 {
            let rows = logits.each_ref().map(|l| &l[t * v..][..v]);
            let exact = log_softmax(rows[0]);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let found = log_softmax(row);
                sums.n += 1;
                sums.nll -= found[window[t + 1] as usize];
                sums.divergence += exact.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                sums.n_agree += usize::from(argmax(row).ok() == argmax(rows[0]).ok());
            }
        }
    }
    println!("{} tokens in windows of {n_ctx}", sums[0].n);
    println!("| dtype | perplexity | against fp32 | KL divergence, nats | same most likely token |");
    println!("|---|---|---|---|---|");
    let perplexity = |s: &Sums| (s.nll / s.n as f64).exp();
    for (dtype, s) in Dtype::ALL.iter().zip(&sums) {
        let ratio = perplexity(s) / perplexity(&sums[0]) - 1.0;
        let (kl, agree) = (s.divergence / s.n as f64, 100.0 * s.n_agree as f64 / s.n as f64);
        println!("| {} | {:.3} | {:+.2} % | {kl:.1e} | {agree:.1} % |", dtype.name(), perplexity(s), 100.0 * ratio);
        let most = [1e-5, 1e-3, 5e-3, 5e-2][*dtype as usize]; // the goals
        assert!(ratio.abs() <= most, "{}: perplexity {:+.2} %, at most {most}", dtype.name(), 100.0 * ratio);
    }
}
