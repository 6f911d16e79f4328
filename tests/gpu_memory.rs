//! What happens when a GPU is full, and when work counts as done. Needs an adapter (Mesa's software one will do).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use gpt2_kernels::Dtype;
use gpt2_web::Error;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuCache, GpuEngine, Tuning};
use gpt2_web::engine::{Cache, Choose, Engine, Rows};
use gpt2_web::generate::{GenerateOptions, Session, Step};
use gpt2_web::tokenizer::Tokenizer;
use pollster::block_on;

#[path = "gpu/harness.rs"]
#[allow(dead_code)] // the other tests of the GPU use the rest
mod harness;

use harness::*;

/// A small model with a window of 512 tokens.
fn packed() -> Packed {
    let json = r#"{"model_type":"gpt2","n_embd":24,"n_head":2,"n_layer":2,"vocab_size":301,"n_positions":512}"#;
    Packed::random(Config::from_json(json).expect("config"), Dtype::Fp32)
}

fn ids(range: std::ops::Range<u32>) -> Vec<u32> {
    range.map(|i| i * 7 % 301).collect()
}

fn run(gpu: &GpuEngine, cache: &mut GpuCache, ids: &[u32], rows: Rows) -> Result<Vec<f32>, Error> {
    block_on(gpu.forward(cache, ids, rows, false)).map(|output| output.logits)
}

#[test]
fn a_cache_that_cannot_grow_fails_the_one_call() {
    let Some(gpu) = packed().gpu() else { return };
    let mut cache = gpu.new_cache();
    run(&gpu, &mut cache, &ids(0..100), Rows::Last).expect("room for 128, and a buffer to read logits through");
    let n_bytes = cache.n_bytes();
    gpu.act_full(true);
    for rows in [Rows::None, Rows::Last] {
        let error = run(&gpu, &mut cache, &ids(100..160), rows).expect_err("no room");
        // room for 256 tokens: two layers of key and value, f32 [2][H = 2][D = 12]
        let expected = Error::GpuOutOfMemory { what: "room for 256 tokens".into(), n_bytes: 2 * 256 * 8 * 24 };
        assert_eq!(error, expected);
        assert_eq!((cache.n_tokens(), cache.n_bytes()), (100, n_bytes), "as it was");
    }
    assert!(gpu.propose(&mut cache, &ids(100..160), &Choose::default()).expect("no error").is_none());
    assert_eq!(run(&gpu, &mut gpu.new_cache(), &[1], Rows::Last).expect_err("not even 128").code(), "out_of_memory");

    // what needs no room works meanwhile, and so does everything later
    let mut fresh = run(&gpu, &mut cache, &ids(100..101), Rows::Last).expect("a token within the room");
    gpu.act_full(false);
    fresh.extend(run(&gpu, &mut cache, &ids(101..160), Rows::Last).expect("room for 256"));
    let mut undisturbed = gpu.new_cache();
    run(&gpu, &mut undisturbed, &ids(0..100), Rows::Last).expect("room");
    let mut expected = run(&gpu, &mut undisturbed, &ids(100..101), Rows::Last).expect("room");
    expected.extend(run(&gpu, &mut undisturbed, &ids(101..160), Rows::Last).expect("room"));
    assert_eq!(fresh, expected);
}

#[test]
fn clones_share_what_they_hold_until_one_grows() {
    let Some(gpu) = packed().gpu() else { return };
    let alone = |last: u32| {
        let mut cache = gpu.new_cache();
        run(&gpu, &mut cache, &ids(0..40), Rows::None).expect("beginning");
        run(&gpu, &mut cache, &[last], Rows::Last).expect("last")
    };
    let (of_3, of_5) = (alone(3), alone(5));
    let mut original = gpu.new_cache();
    run(&gpu, &mut original, &ids(0..40), Rows::None).expect("beginning");
    gpu.act_full(true);
    let mut clone = original.clone();
    assert_eq!(run(&gpu, &mut clone, &[5], Rows::Last).expect_err("no room of its own").code(), "out_of_memory");
    gpu.act_full(false);
    assert_eq!(run(&gpu, &mut clone, &[5], Rows::Last).expect("a copy"), of_5);
    assert_eq!(run(&gpu, &mut original, &[3], Rows::Last).expect("the original"), of_3);

    // the other way round, and after going back
    original.truncate(40);
    let mut clone = original.clone();
    assert_eq!(run(&gpu, &mut original, &[3], Rows::Last).expect("the original"), of_3);
    assert_eq!(run(&gpu, &mut clone, &[5], Rows::Last).expect("the clone"), of_5);
    // a clone that is gone costs nothing
    original.truncate(40);
    drop(original.clone());
    let before = gpu.counters();
    assert_eq!(run(&gpu, &mut original, &[5], Rows::Last).expect("no copy"), of_5);
    assert_eq!(gpu.counters().since(&before).n_objects, 0);
}

#[test]
fn a_session_goes_on_after_a_call_that_found_no_room() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo");
    let packed = Packed::folder(&demo, Dtype::Q8);
    let Some(gpu) = packed.gpu() else { return };
    let gpu = Rc::new(gpu);
    let json = std::fs::read(demo.join("tokenizer.json")).expect("tokenizer.json");
    let tokenizer = Rc::new(Tokenizer::from_tokenizer_json(&json).expect("tokenizer"));
    let prompt: Vec<u32> = (0..126).map(|i| i * 13 % packed.config.vocab_size as u32).collect();
    let serde_json::Value::Object(given) = serde_json::json!({ "max_new_tokens": 20, "eos_token_id": null }) else {
        panic!("an object")
    };
    let (defaults, _) = GenerateOptions::defaults(&packed.config, None);
    let options = defaults.with(&given, &packed.config).expect("options");
    let write = |session: &mut Session<GpuEngine>| {
        session.begin(options.clone(), 0)?;
        loop {
            if let Step::Token(_, Some(_)) = block_on(session.step(64))? {
                return Ok::<_, Error>(session.ids().to_vec());
            }
        }
    };
    let mut undisturbed = Session::new(gpu.clone(), tokenizer.clone());
    undisturbed.append(&prompt);
    let expected = write(&mut undisturbed).expect("undisturbed");

    let mut session = Session::new(gpu.clone(), tokenizer);
    session.append(&prompt[..1]);
    session.begin(options.clone(), 0).expect("begin");
    block_on(session.step(64)).expect("room for 128");
    session.replace(prompt, false);
    gpu.act_full(true);
    assert_eq!(write(&mut session).expect_err("no room for 129").code(), "out_of_memory");
    gpu.act_full(false);
    let n_new = session.ids().len() - 126;
    assert!(n_new > 0 && session.ids() == &expected[..126 + n_new], "the text keeps what it has got");
    session.rewind(n_new).expect("rewind");
    assert_eq!(write(&mut session).expect("room"), expected);
}

#[test]
fn a_piece_of_a_prompt_is_done_when_the_device_has_done_it() {
    let Some((device, queue)) = device() else { return };
    let gpu = packed().on((device, queue.clone()));
    let mut cache = gpu.new_cache();
    let mut piece = |range| {
        run(&gpu, &mut cache, &ids(range), Rows::None).expect("piece");
        (cache.n_tokens(), cache.n_computed())
    };
    assert_eq!(piece(0..64), (64, 0));
    let is_done = Arc::new(AtomicBool::new(false));
    let told = is_done.clone();
    queue.on_submitted_work_done(move || told.store(true, SeqCst));
    assert_eq!(piece(64..128), (128, 64));
    assert!(is_done.load(SeqCst), "the first piece was waited for");
    assert_eq!(piece(128..140), (140, 128));
    run(&gpu, &mut cache, &[1], Rows::Last).expect("a token");
    assert_eq!((cache.n_tokens(), cache.n_computed()), (141, 141));
    cache.truncate(30);
    assert_eq!(cache.n_computed(), 30);
}

#[test]
fn every_step_of_a_load_tells_that_the_device_is_full() {
    let packed = packed();
    let Some(device) = device() else { return };
    let loader = packed.loader(device);
    loader.act_full(true);
    let full = |error: Error| match error {
        Error::GpuOutOfMemory { what, n_bytes } => (what, n_bytes),
        other => panic!("{other:?}"),
    };
    let n_bytes = packed.layout.n_bytes as u64;
    let another = block_on(loader.beside(packed.config.clone(), Dtype::Fp32));
    assert_eq!(full(another.err().expect("full")), ("the packed weights".to_string(), n_bytes));
    let (what, n_bytes) = full(block_on(loader.search(now_ms)).expect_err("full"));
    assert!(what == "the tuning's buffers" && n_bytes > 512 * 24 * 4, "{what}: {n_bytes}");
    let (what, n_bytes) = full(block_on(loader.prepare(Tuning::default())).expect_err("full"));
    assert!(what == "the GPU engine" && n_bytes > 512 * 24 * 4, "{what}: {n_bytes}");
    // the weights that were there are, and what failed can be done later
    loader.act_full(false);
    let gpu = block_on(loader.finish()).expect("engine");
    gpu.act_full(true);
    assert_eq!(full(block_on(gpu.warm_up()).expect_err("full")).0, "room for 128 tokens");
    gpu.act_full(false);
    block_on(gpu.warm_up()).expect("passes");
}
