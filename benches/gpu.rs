//! The GPU engine natively, on the machine's first adapter:
//! `cargo bench --bench gpu [-- DTYPE… --model small|medium|large|xl --n-layer N --tune --quick]`.
//!
//! GPT-2's shapes (124M unless said otherwise) with random weights: speed does not depend on them. Prints tokens per
//! second, the bytes of weights that a token reads against the bandwidth that a copy reaches on the same adapter, what
//! a token asks of the device, and where the time of a token and of a prompt goes by kernel. `--tune` measures how work
//! is best spread first; `--quick` decodes a few tokens only. A software adapter is for correctness only: its numbers
//! mean nothing.

#[path = "../tests/gpu/harness.rs"]
#[allow(dead_code)] // the tests' own part
mod harness;

use std::time::Instant;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::Choose;
use gpt2_web::engine::gpu::{Counters, GpuEngine, Input, Tuning};
use gpt2_web::engine::{Cache, Engine, Rows};
use harness::Packed;
use pollster::block_on;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let dtypes: Vec<Dtype> = words.iter().filter_map(|w| Dtype::from_name(w)).collect();
    let dtypes = if dtypes.is_empty() { Dtype::ALL.to_vec() } else { dtypes };
    let after = |flag: &str| words.windows(2).find(|w| w[0] == flag).map(|w| w[1].as_str());
    let has = |flag: &str| words.iter().any(|w| w == flag);
    let (c, n_head, n_layer) = match after("--model").unwrap_or("small") {
        "small" => (768, 12, "12"),
        "medium" => (1024, 16, "24"),
        "large" => (1280, 20, "36"),
        "xl" => (1600, 25, "48"),
        other => panic!("--model: expected small, medium, large or xl, found {other}"),
    };
    let n_layer = after("--n-layer").unwrap_or(n_layer);
    let json = format!(r#"{{"model_type":"gpt2","n_embd":{c},"n_head":{n_head},"n_layer":{n_layer}}}"#);
    let config = Config::from_json(&json).expect("config");
    let n_tokens = if has("--quick") { 4 } else { 64 };

    let Some(bandwidth) = copy_bandwidth() else { return };
    println!("copy: {bandwidth:.0} GB/s (bytes read and written)");
    for dtype in dtypes {
        let packed = Packed::random(config.clone(), dtype);
        let features = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16;
        let Some(device) = harness::device_that(wgpu::Limits::default(), features) else { return };
        let begin = Instant::now();
        let loader = packed.loader(device);
        let written = begin.elapsed();
        let tuning = match has("--tune") {
            true => block_on(loader.search(harness::now_ms)).expect("search"),
            false => Tuning::default(),
        };
        let tuned = begin.elapsed();
        block_on(loader.prepare(tuning)).expect("prepare");
        let gpu = block_on(loader.finish()).expect("engine");
        let compiled = begin.elapsed();
        gpu.set_clock(harness::now_ms);
        block_on(gpu.warm_up()).expect("warm up");
        println!("\n## {} of {} MB; {tuning:?}", dtype.name(), gpu.weight_bytes() / 1_000_000);
        println!(
            "weights written in {:.1} s, tuned in {:.1} s, {} pipelines compiled in {:.1} s, warmed up in {:.1} s",
            written.as_secs_f64(),
            (tuned - written).as_secs_f64(),
            gpu.n_pipelines(),
            (compiled - tuned).as_secs_f64(),
            (begin.elapsed() - compiled).as_secs_f64(),
        );
        for n in if has("--quick") { vec![32] } else { vec![32, 128, 512] } {
            println!("prefill of {n}: {:.1} ms", prefill(&gpu, n, n_tokens));
        }
        for n_past in if has("--quick") { vec![32] } else { vec![32, 512] } {
            let (rate, used) = decode(&gpu, n_past, n_tokens);
            let read = gpu.weight_bytes() as f64 * rate / 1e9;
            println!(
                "decode after {n_past}: {rate:.1} tokens/s, {read:.0} GB/s of weights ({:.0} % of the copy); per token {:.0} \
                 dispatches, {:.2} submits, {:.2} objects, {:.0} bytes read back, {:.3} ms to record",
                100.0 * read / bandwidth,
                used.n_dispatches as f64 / n_tokens as f64,
                used.n_submits as f64 / n_tokens as f64,
                used.n_objects as f64 / n_tokens as f64,
                used.read_bytes as f64 / n_tokens as f64,
                used.encode_ms / n_tokens as f64,
            );
        }
        profile(&gpu, if has("--quick") { 32 } else { 512 });
    }
}

/// Where the time goes, by kernel.
fn profile(gpu: &GpuEngine, n_past: u32) {
    let ids: Vec<u32> = (0..n_past).collect();
    let mut cache = gpu.new_cache();
    for (what, ids) in [(format!("a prompt of {n_past}"), &ids[..]), (format!("a token after {n_past}"), &[1][..])] {
        let n_past = cache.n_tokens();
        let mut run = || {
            cache.truncate(n_past);
            block_on(gpu.profile(&mut cache, ids))
        };
        let spans = match run().and_then(|_| run()) {
            Ok(spans) => spans,
            Err(error) => return println!("{error}"),
        };
        let total: f64 = spans.iter().map(|span| span.ms).sum();
        println!(
            "\n{what}, {total:.2} ms by timestamps of each dispatch\n| kernel | dispatches | µs each | share |\n|---|---|---|---|"
        );
        for span in spans {
            let each = 1e3 * span.ms / span.n_dispatches as f64;
            println!("| {} | {} | {each:.1} | {:.1} % |", span.label, span.n_dispatches, 100.0 * span.ms / total);
        }
    }
}

/// GB/s of a copy within the device's memory, bytes read and written.
fn copy_bandwidth() -> Option<f64> {
    const N_BYTES: u64 = 128 << 20;
    const N_COPIES: u32 = 20;
    let (device, queue) = harness::device()?;
    println!("adapter: {}", device.adapter_info().name);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: N_BYTES, usage, mapped_at_creation: false };
    let (from, to) = (device.create_buffer(&descriptor), device.create_buffer(&descriptor));
    let run = |n| {
        let mut encoder = device.create_command_encoder(&Default::default());
        for _ in 0..n {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, N_BYTES);
        }
        let begin = Instant::now();
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).expect("copied");
        begin.elapsed().as_secs_f64()
    };
    run(2);
    Some(2.0 * (N_BYTES * u64::from(N_COPIES)) as f64 / run(N_COPIES) / 1e9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds for a prompt of `n` tokens up to its logits, median of 5, or of 1 where few tokens are to be run.
fn prefill(gpu: &GpuEngine, n: u32, n_tokens: usize) -> f64 {
    let ids: Vec<u32> = (0..n).collect();
    let once = |_| {
        let mut cache = gpu.new_cache();
        let begin = Instant::now();
        block_on(gpu.forward(&mut cache, &ids, Rows::Last, false)).expect("prefill");
        begin.elapsed().as_secs_f64() * 1e3
    };
    median((0..if n_tokens < 64 { 1 } else { 5 }).map(once).collect())
}

/// Tokens per second after `n_past` tokens, greedy, two passes ahead, median of 3; and what the last run asked for.
fn decode(gpu: &GpuEngine, n_past: u32, n_tokens: usize) -> (f64, Counters) {
    let ids: Vec<u32> = (0..n_past).collect();
    let (mut cache, choose) = (gpu.new_cache(), Choose::default());
    let mut rates = Vec::new();
    let mut used = Counters::default();
    for _ in 0..if n_tokens < 64 { 1 } else { 3 } {
        cache.truncate(0);
        block_on(gpu.make_room(&mut cache, ids.len() + n_tokens + 2)).expect("room");
        let mut ahead = gpu.submit(&mut cache, Input::Ids(&ids), &choose).expect("prompt");
        let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("first");
        block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
        let (begin, before) = (Instant::now(), gpu.counters());
        for _ in 0..n_tokens {
            let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("ahead");
            block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
        }
        rates.push(n_tokens as f64 / begin.elapsed().as_secs_f64());
        used = gpu.counters().since(&before);
    }
    (median(rates), used)
}
