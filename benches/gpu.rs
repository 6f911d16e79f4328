//! The GPU engine natively, on the machine's first adapter: `cargo bench --bench gpu [-- DTYPE…] [--n-layer N]`.
//!
//! GPT-2 124M's shapes with random weights (speed does not depend on them). Prints tokens per second, and the bytes of
//! weights that a token reads against the bandwidth that a copy reaches on the same adapter. A software adapter is for
//! correctness only: its numbers mean nothing.

#[path = "../tests/gpu/harness.rs"]
#[allow(dead_code)] // the tests' own part
mod harness;

use std::time::Instant;

use gpt2_kernels::Dtype;
use gpt2_web::engine::gpu::{Choose, Gpu, Input};
use gpt2_web::engine::{Cache, Engine, Rows};
use gpt2_web::gpt2::Config;
use harness::Packed;
use pollster::block_on;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let dtypes: Vec<Dtype> = words.iter().filter_map(|w| Dtype::from_name(w)).collect();
    let dtypes = if dtypes.is_empty() { Dtype::ALL.to_vec() } else { dtypes };
    let n_layer = words.windows(2).find(|w| w[0] == "--n-layer").map_or("12", |w| &w[1]);
    let json = format!(r#"{{"model_type":"gpt2","n_layer":{n_layer}}}"#);
    let config = Config::from_json(&json).expect("config");

    let Some(bandwidth) = copy_bandwidth() else { return };
    println!("copy: {bandwidth:.0} GB/s (bytes read and written)");
    println!(
        "dtype | weights MB | prefill of 512, ms | decode after 32 / 512, tok/s | GB/s | of copy | encode, ms/token"
    );
    for dtype in dtypes {
        let packed = Packed::random(config.clone(), dtype);
        let limits = wgpu::Limits::default();
        let Some(device) = harness::device_with(limits) else { return };
        let gpu = packed.on(device);
        gpu.set_clock(harness::now_ms);
        block_on(gpu.warm_up()).expect("warm up");
        let prefill_ms = prefill(&gpu, 512);
        let (short, encode_ms) = decode(&gpu, 32);
        let (long, _) = decode(&gpu, 512);
        let bytes = gpu.weight_bytes() as f64;
        println!(
            "{} | {:.0} | {prefill_ms:.1} | {short:.0} / {long:.0} | {:.0} | {:.0} % | {encode_ms:.3}",
            dtype.name(),
            bytes / 1e6,
            bytes * short / 1e9,
            100.0 * bytes * short / 1e9 / bandwidth,
        );
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

/// Milliseconds for a prompt of `n` tokens up to its logits, median of 5.
fn prefill(gpu: &Gpu, n: u32) -> f64 {
    let ids: Vec<u32> = (0..n).collect();
    let once = |_| {
        let mut cache = gpu.new_cache();
        let begin = Instant::now();
        block_on(gpu.forward(&mut cache, &ids, Rows::Last, false)).expect("prefill");
        begin.elapsed().as_secs_f64() * 1e3
    };
    median((0..5).map(once).collect())
}

/// Tokens per second after `n_past` tokens, greedy, two passes ahead; and milliseconds to record one.
fn decode(gpu: &Gpu, n_past: u32) -> (f64, f64) {
    const N: usize = 64;
    let ids: Vec<u32> = (0..n_past).collect();
    let (mut cache, choose) = (gpu.new_cache(), Choose::default());
    let mut rates = Vec::new();
    let mut encode_ms = 0.0;
    for _ in 0..3 {
        cache.truncate(0);
        let mut ahead = gpu.submit(&mut cache, Input::Ids(&ids), &choose).expect("prompt");
        let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("first");
        block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
        let (begin, before) = (Instant::now(), gpu.counters());
        for _ in 0..N {
            let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("ahead");
            block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen");
        }
        rates.push(N as f64 / begin.elapsed().as_secs_f64());
        encode_ms = gpu.counters().since(&before).encode_ms / N as f64;
    }
    (median(rates), encode_ms)
}
