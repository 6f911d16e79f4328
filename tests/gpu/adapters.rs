//! LoRA adapters on the GPU: PEFT's numbers, the same bits however a text is cut and whatever is beside it, and nothing
//! of it where there is none.

use gpt2_kernels::Dtype;
use gpt2_web::adapter::Adapter;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuEngine, Input};
use gpt2_web::engine::{BatchRow, Cache, Choose, Engine, Rows};
use gpt2_web::sampler::argmax;
use pollster::block_on;

use crate::bits::{assert_same_bits, config, ids};
use crate::common::adapters::*;
use crate::common::{self, cpu, expected, relative_error, shared};
use crate::harness::*;
use crate::run;

const ALL: [usize; 4] = [0, 1, 2, 3];

/// Logits of all rows, the text cut after so many tokens each time.
fn in_pieces(gpu: &GpuEngine, adapter: Option<usize>, ids: &[u32], cuts: &[usize]) -> Vec<f32> {
    let (mut cache, mut logits, mut rest) = (gpu.new_cache_with(adapter), Vec::new(), ids);
    for n in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(n.min(rest.len()));
        rest = after;
        if !piece.is_empty() {
            logits.extend(run(gpu, &mut cache, piece, Rows::All));
        }
    }
    logits
}

#[test]
fn logits_are_those_of_peft_and_without_an_adapter_those_of_before() {
    let Some(learn) = shared("learn") else { return };
    let (lora, model) = (learn.join("lora"), learn.join("trained"));
    let expected = expected(&lora.join("logits.safetensors"));
    let ids = prompt(&learn);
    let Some(gpu) = Packed::folder(&model, Dtype::Fp32).gpu() else { return };
    let before = logits(&gpu, None, &ids);
    assert_close("base", &before, &expected["base"].1, 1e-4);
    let mut numbers = Vec::new();
    for name in ["adapter", "init", "rslora", "bf16", "pattern"] {
        let adapter = adapter(&model, &lora.join(name)).expect(name);
        numbers.push((name, add(&gpu, &[(&adapter, 1.0)])));
    }
    let half = add(&gpu, &[(&adapter(&model, &lora.join("adapter")).expect("adapter"), 0.5)]);
    numbers.push(("adapter_scale_0.5", half));
    // in any order, with others between them
    for (name, number) in numbers.iter().chain(numbers.iter().rev()) {
        let found = logits(&gpu, Some(*number), &ids);
        assert_close(name, &found, &expected[*name].1, 1e-4);
        assert_same_bits(name, &in_pieces(&gpu, Some(*number), &ids, &[1; 16]), &found);
        assert_same_bits(&format!("without it, after {name}"), &logits(&gpu, None, &ids), &before);
        let one_by_one = in_pieces(&gpu, None, &ids, &[1; 16]);
        assert_same_bits(&format!("one by one without it, after {name}"), &one_by_one, &before);
    }
    assert_close("merged", &logits(&gpu, Some(numbers[0].1), &ids), &expected["merged"].1, 1e-4);
    let mut cache = gpu.new_cache_with(Some(numbers[0].1));
    numbers.iter().for_each(|(_, number)| gpu.free_adapter(*number));
    let found = run(&gpu, &mut cache, &ids, Rows::All);
    assert_close("given up", &found, &expected["adapter"].1, 1e-4);
    cache.truncate(3);
    let found = run(&gpu, &mut cache.clone(), &ids[3..], Rows::All);
    assert_close("a copy, rewound", &found, &expected["adapter"].1[3 * gpu.config().vocab_size..], 1e-4);
}

#[test]
fn formats_are_as_near_with_an_adapter_as_without_one() {
    let Some(learn) = shared("learn") else { return };
    let model = learn.join("trained");
    let adapter = adapter(&model, &learn.join("lora/adapter")).expect("an adapter");
    let expected = expected(&learn.join("lora/logits.safetensors"));
    for (dtype, bound) in [(Dtype::Fp16, 2e-3), (Dtype::Q8, 0.02), (Dtype::Q4, 0.15)] {
        let Some(gpu) = Packed::folder(&model, dtype).gpu() else { return };
        let number = add(&gpu, &[(&adapter, 1.0)]);
        let error = relative_error(&logits(&gpu, Some(number), &prompt(&learn)), &expected["adapter"].1);
        println!("{}: {error:.1e}", dtype.name());
        assert!(error < bound, "{}: {error:.1e} is above {bound:.1e}", dtype.name());
    }
}

#[test]
fn every_rank_on_every_matrix_gives_what_the_cpu_gives() {
    let folder = golden("models/odd");
    let model = common::config(&folder);
    let Some(gpu) = Packed::folder(&folder, Dtype::Fp32).gpu() else { return };
    let cpu = cpu(&folder, Dtype::Fp32);
    let ids = ids(model.n_positions.min(13), &model);
    let base = logits(&gpu, None, &ids);
    let check = |what: &str, sum: &[(&Adapter, f32)]| {
        let (on_gpu, on_cpu) = (add(&gpu, sum), add(&cpu, sum));
        let (found, expected) = (logits(&gpu, Some(on_gpu), &ids), logits(&cpu, Some(on_cpu), &ids));
        let error = relative_error(&found, &expected);
        assert!(error < 1e-5, "{what}: {error:.1e}");
        assert!(relative_error(&found, &base) > 0.01, "{what} counts");
        assert_same_bits(what, &in_pieces(&gpu, Some(on_gpu), &ids, &[1; 13]), &found);
        gpu.free_adapter(on_gpu);
    };
    for rank in [1, 3, 8, 64, 256] {
        for modules in [&ALL[..], &[0], &[1], &[2], &[3], &[0, 3]] {
            let adapter = random_adapter(&model, modules, rank, 7 + rank as u64);
            check(&format!("rank {rank} on {modules:?}"), &[(&adapter, 1.0)]);
        }
    }
    let [a, b] = [(&[0, 2][..], 5), (&[0, 1], 256)].map(|(modules, rank)| random_adapter(&model, modules, rank, 3));
    check("two", &[(&a, 0.5), (&b, 1.5)]);
    let nothing = add(&gpu, &[(&a, 0.7), (&a, -0.7)]);
    let error = relative_error(&logits(&gpu, Some(nothing), &ids), &base);
    assert!(error < 1e-5, "weights that cancel out: {error:.1e}");
}

/// Shapes whose heads, rows and columns are no multiple of anything, and one like GPT-2's own, each with the formats that
/// it is tested in.
fn shapes() -> [(Config, &'static [Dtype]); 2] {
    let odd = r#""n_embd":65,"n_head":5,"n_layer":2,"n_inner":131,"vocab_size":203,"n_positions":80"#;
    let usual = r#""n_embd":192,"n_head":3,"n_layer":2,"vocab_size":130,"n_positions":80"#;
    [(config(odd), &Dtype::ALL), (config(usual), &[Dtype::Q8])]
}

#[test]
fn every_split_of_a_text_gives_the_same_bits() {
    for (config, dtypes) in shapes() {
        for &dtype in dtypes {
            let Some(gpu) = Packed::random(config.clone(), dtype).gpu() else { return };
            let ids = ids(70, &config);
            for (modules, rank) in [(&ALL[..], 6), (&[0], 33)] {
                let number = add(&gpu, &[(&random_adapter(&config, modules, rank, 1), 1.0)]);
                let whole = in_pieces(&gpu, Some(number), &ids, &[]);
                for cuts in [&[1; 70][..], &[1, 30, 1, 33], &[64], &[65, 4], &[17, 16, 15, 14]] {
                    let cut = &cuts[..cuts.len().min(4)];
                    let what = format!("C = {}, {}, rank {rank}, {cut:?}", config.n_embd, dtype.name());
                    assert_same_bits(&what, &in_pieces(&gpu, Some(number), &ids, cuts), &whole);
                }
                let mut used = gpu.new_cache_with(Some(number));
                run(&gpu, &mut used, &ids, Rows::None);
                used.truncate(40);
                let mut copy = used.clone();
                run(&gpu, &mut copy, &[1, 2, 3], Rows::None);
                copy.truncate(40);
                let v = config.vocab_size;
                for (what, cache) in [("a copy, rewound", &mut copy), ("what was copied", &mut used)] {
                    assert_same_bits(what, &run(&gpu, cache, &ids[40..], Rows::All), &whole[40 * v..]);
                }
            }
        }
    }
}

#[test]
fn texts_of_different_adapters_beside_each_other_have_the_bits_of_texts_alone() {
    for (config, dtypes) in shapes() {
        for &dtype in dtypes {
            let Some(gpu) = Packed::random(config.clone(), dtype).gpu() else { return };
            let of = |modules: &[usize], rank, seed| {
                Some(add(&gpu, &[(&random_adapter(&config, modules, rank, seed), 1.0)]))
            };
            let (a, b) = (of(&ALL, 4, 1), of(&[0, 3], 9, 2));
            let ids = ids(80, &config);
            // of each text: its adapter, how many tokens are in its cache, how many are new
            for texts in [
                &[(a, 5, 1), (a, 66, 1)][..],
                &[(a, 5, 1), (None, 7, 1), (a, 1, 1), (None, 64, 1), (a, 30, 1)],
                &[(b, 0, 20), (a, 3, 1), (b, 9, 1), (None, 0, 7), (a, 0, 33), (a, 64, 1)],
                &[(a, 0, 3), (a, 0, 2), (a, 2, 1), (a, 1, 1), (b, 1, 1), (a, 4, 1), (a, 1, 2), (a, 1, 1)],
                &[(None, 3, 1), (b, 3, 1)],
            ] {
                let cache = |&(adapter, n_past, _): &(Option<usize>, usize, usize)| {
                    let mut cache = gpu.new_cache_with(adapter);
                    if n_past > 0 {
                        run(&gpu, &mut cache, &ids[..n_past], Rows::None);
                    }
                    cache
                };
                let mut caches: Vec<_> = texts.iter().map(cache).collect();
                let rows = caches.iter_mut().zip(texts).enumerate();
                let mut rows: Vec<_> = rows
                    .map(|(i, (cache, &(_, n_past, n_new)))| {
                        let rows = if i % 2 == 0 { Rows::All } else { Rows::Last };
                        BatchRow { cache, ids: &ids[n_past..n_past + n_new], rows }
                    })
                    .collect();
                let found = block_on(gpu.forward_batch(&mut rows)).expect("a pass");
                for (i, (text, found)) in texts.iter().zip(found).enumerate() {
                    let what = format!("C = {}, {}, text {i} of {texts:?}", config.n_embd, dtype.name());
                    let (mut alone, (_, n_past, n_new)) = (cache(text), *text);
                    let rows = if i % 2 == 0 { Rows::All } else { Rows::Last };
                    let expected = run(&gpu, &mut alone, &ids[n_past..n_past + n_new], rows);
                    assert_same_bits(&what, &found.logits, &expected);
                    let [found, expected] =
                        [&mut caches[i], &mut alone].map(|cache| run(&gpu, cache, &ids[79..], Rows::Last));
                    assert_same_bits(&format!("{what}, the next token"), &found, &expected);
                }
            }
        }
    }
}

#[test]
fn an_adapter_costs_a_dispatch_for_a_part_at_most_and_creates_nothing() {
    let config = config(r#""n_embd":24,"n_head":2,"n_layer":12,"vocab_size":301,"n_positions":64"#);
    let Some(gpu) = Packed::random(config.clone(), Dtype::Fp16).gpu() else { return };
    let of = |modules: &[usize], rank| add(&gpu, &[(&random_adapter(&config, modules, rank, rank as u64), 1.0)]);
    let [one, all, large] = [of(&[0], 8), of(&ALL, 16), of(&ALL, 17)];
    let choose = Choose { k: 5, ..Choose::default() };
    // of a token, and of a prompt: few ranks of a norm are computed by the product itself
    let cases = [(None, 0, 0), (Some(one), 0, 12), (Some(all), 24, 48), (Some(large), 48, 48), (None, 0, 0)];
    for (adapter, n_more, n_more_of_prompt) in cases {
        let mut cache = gpu.new_cache_with(adapter);
        run(&gpu, &mut cache, &[1, 2], Rows::Last);
        let before = gpu.counters();
        for id in 0..8 {
            run(&gpu, &mut cache, &[id], Rows::Last);
        }
        let used = gpu.counters().since(&before);
        assert_eq!((used.n_dispatches, used.n_submits, used.n_objects), (8 * (62 + n_more), 8, 0), "{adapter:?}");
        let before = gpu.counters();
        run(&gpu, &mut cache, &[5, 6, 7, 8], Rows::Last);
        let used = gpu.counters().since(&before);
        assert_eq!((used.n_dispatches, used.n_submits, used.n_objects), (86 + n_more_of_prompt, 1, 0), "{adapter:?}");
        // chosen on the device, a pass ahead
        let mut host = cache.clone();
        block_on(gpu.make_room(&mut cache, 8)).expect("room");
        let mut ahead = gpu.submit(&mut cache, Input::Ids(&[1]), &choose).expect("first");
        let (mut found, mut next, mut expected) = (Vec::new(), 1, Vec::new());
        for _ in 0..6 {
            let next = gpu.submit(&mut cache, Input::Chosen(&ahead), &choose).expect("ahead");
            found.push(block_on(gpu.chosen(std::mem::replace(&mut ahead, next))).expect("chosen").id);
        }
        for _ in 0..6 {
            next = argmax(&run(&gpu, &mut host, &[next], Rows::Last)).expect("argmax");
            expected.push(next);
        }
        assert_eq!(found, expected, "{adapter:?}");
    }
    // two texts beside each other
    for adapter in [one, all].map(Some) {
        let mut caches = [0, 1].map(|_| cache_for_text(&gpu, adapter));
        let mut batch = || {
            let before = gpu.counters();
            let rows = caches.iter_mut().map(|cache| BatchRow { cache, ids: &[3], rows: Rows::Last });
            block_on(gpu.forward_batch(&mut rows.collect::<Vec<_>>())).expect("a pass");
            gpu.counters().since(&before)
        };
        batch();
        let used = batch();
        let n_more = if adapter == Some(one) { 12 } else { 48 };
        assert_eq!((used.n_dispatches, used.n_submits, used.n_objects), (62 + n_more, 1, 0), "{adapter:?}");
    }
}

fn cache_for_text(gpu: &GpuEngine, adapter: Option<usize>) -> gpt2_web::engine::gpu::GpuCache {
    let mut cache = gpu.new_cache_with(adapter);
    run(gpu, &mut cache, &[1, 2], Rows::None);
    cache
}

#[test]
fn attention_weights_are_those_of_the_adapter() {
    let folder = golden("models/odd");
    let model = common::config(&folder);
    let Some(gpu) = Packed::folder(&folder, Dtype::Fp32).gpu() else { return };
    let cpu = cpu(&folder, Dtype::Fp32);
    let adapter = random_adapter(&model, &ALL, 8, 5);
    let ids = ids(9, &model);
    let weights =
        |output: gpt2_web::Result<gpt2_web::engine::Output>| output.expect("forward").attentions.expect("some");
    let (on_gpu, on_cpu) = (add(&gpu, &[(&adapter, 1.0)]), add(&cpu, &[(&adapter, 1.0)]));
    let found = weights(block_on(gpu.forward(&mut gpu.new_cache_with(Some(on_gpu)), &ids, Rows::None, true)));
    let expected = weights(block_on(cpu.forward(&mut cpu.new_cache_with(Some(on_cpu)), &ids, Rows::None, true)));
    let without = weights(block_on(gpu.forward(&mut gpu.new_cache(), &ids, Rows::None, true)));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_close(&format!("h.{i}"), found, expected, 1e-5);
    }
    assert_ne!(found, without);
}

#[test]
fn an_adapter_that_finds_no_room_is_an_error_and_nothing_else() {
    let config = shapes()[1].0.clone();
    let Some(gpu) = Packed::random(config.clone(), Dtype::Q8).gpu() else { return };
    let adapter = random_adapter(&config, &ALL, 8, 1);
    let first = add(&gpu, &[(&adapter, 1.0)]);
    let ids = ids(20, &config);
    let [before, base] = [Some(first), None].map(|adapter| logits(&gpu, adapter, &ids));
    gpu.act_full(true);
    let error = block_on(gpu.add_adapter(1000, &[(&adapter, 1.0)])).expect_err("full");
    gpu.act_full(false);
    assert_eq!(error.code(), "out_of_memory");
    assert!(error.to_string().contains("GPU memory: the LoRA adapter"), "{error}");
    assert_same_bits("one that is there", &logits(&gpu, Some(first), &ids), &before);
    assert_same_bits("none", &logits(&gpu, None, &ids), &base);
    block_on(gpu.add_adapter(1000, &[(&adapter, 1.0)])).expect("room again");
    assert_same_bits("the one refused", &logits(&gpu, Some(1000), &ids), &before);
    // so large that nothing binds it
    let many: Vec<_> = (0..260).map(|_| (&adapter, 1.0)).collect();
    let huge = random_adapter(&config, &[2], 256, 1);
    let sum: Vec<_> = many.iter().copied().chain((0..200).map(|_| (&huge, 1.0))).collect();
    let error = block_on(gpu.add_adapter(1001, &sum)).expect_err("too large");
    assert_eq!(error.code(), "webgpu_not_available", "{error}");
    assert_same_bits("none, after it", &logits(&gpu, None, &ids), &base);
}
