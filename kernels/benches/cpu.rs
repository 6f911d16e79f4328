//! The kernels natively, one thread, on GPT-2 124M's shapes: `cargo bench -p gpt2-kernels [-- FILTER]`, such as
//! `q8/decode`.
//!
//! The weights are random, because speed does not depend on them. Decode and sweep count the bytes of the image (and,
//! for decode, of the cache) that they read, so that Criterion prints GiB/s: a token cannot be faster than the sweep of
//! the same memory. Prefill counts tokens, and so does a batch: one token of each of some texts after 32. Natively the
//! vector operations are those of `simd/portable.rs`, so this bench compares one version of a kernel with another;
//! `./build.sh bench` measures the speed that visitors get. For more CPU features than the target's baseline:
//! `RUSTFLAGS="-C target-cpu=native"`.
#![allow(missing_docs)] // criterion_main!

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gpt2_kernels::cache::Cache;
use gpt2_kernels::noise::fill;
use gpt2_kernels::simd::sweep;
use gpt2_kernels::{Activation, Dims, Dtype, Forward, Layout, PackedModel, Rows};

const GPT2: Dims = Dims {
    vocab_size: 50257,
    n_positions: 1024,
    n_embd: 768,
    n_layer: 12,
    n_head: 12,
    n_inner: 3072,
    activation: Activation::GeluNew,
    layer_norm_epsilon: 1e-5,
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
    tie_word_embeddings: true,
};

fn bench(criterion: &mut Criterion) {
    for dtype in Dtype::ALL {
        let mut group = criterion.benchmark_group(dtype.name());
        // made only if the filter lets one of its benches through
        let model = LazyCell::new(|| {
            let mut model = PackedModel::new(GPT2, dtype).expect("memory for the weights");
            fill(&mut model, 1);
            model
        });
        let layout = Layout::new(&GPT2, dtype).expect("a layout");
        let ids: Vec<u32> = (0..512).map(|i| i * 7919 % 50257).collect();
        // all but the position embeddings, of which a token reads one row only
        let read_bytes = layout.n_bytes - layout.wpe.len();

        group.throughput(Throughput::Bytes(read_bytes as u64));
        group.bench_function("read sweep", |b| {
            let chunks = &model.image().as_chunks().0[layout.wpe.len() / 16..];
            b.iter(|| sweep(black_box(chunks)));
        });
        for n_past in [32, 512] {
            let quantised = matches!(dtype, Dtype::Q8 | Dtype::Q4);
            let cache_bytes = Cache::new(&GPT2, quantised).reserve_bytes(n_past);
            group.throughput(Throughput::Bytes((read_bytes + cache_bytes) as u64));
            group.bench_function(format!("decode after {n_past}"), |b| {
                let (mut scratch, mut cache) = (model.scratch(1), model.new_cache());
                model.forward_alone(&mut scratch, &mut cache, &ids[..n_past], Rows::None, false);
                b.iter(|| {
                    cache.truncate(n_past);
                    model.forward_alone(&mut scratch, &mut cache, &ids[..1], Rows::Last, false)
                });
            });
        }
        for n_texts in [1, 2, 4, 8] {
            group.throughput(Throughput::Elements(n_texts as u64));
            group.bench_function(format!("batch of {n_texts}"), |b| {
                let mut scratch = model.scratch(1);
                let mut caches: Vec<Cache> = (0..n_texts).map(|_| model.new_cache()).collect();
                for cache in &mut caches {
                    model.forward_alone(&mut scratch, cache, &ids[..32], Rows::None, false);
                }
                b.iter(|| {
                    caches.iter_mut().for_each(|cache| cache.truncate(32));
                    let texts = ids[..n_texts].iter().map(|&id| (vec![id], Rows::Last));
                    let mut forward = Forward::batch(texts);
                    model.run_alone(&mut forward, &mut scratch, &mut caches);
                    forward
                });
            });
        }
        for n_prompt in [32, 128, 512] {
            group.throughput(Throughput::Elements(n_prompt as u64));
            group.bench_function(format!("prefill {n_prompt}"), |b| {
                let mut scratch = model.scratch(1);
                b.iter(|| {
                    let mut cache = model.new_cache();
                    model.forward_alone(&mut scratch, &mut cache, &ids[..n_prompt], Rows::Last, false)
                });
            });
        }
    }
}

criterion_group! {
    name = cpu;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = bench
}
criterion_main!(cpu);
