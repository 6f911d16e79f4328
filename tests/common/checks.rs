//! What every engine must do, held against it here once.

use gpt2_web::engine::{BatchRow, Cache, Engine, Rows};
use gpt2_web::sampler::argmax;
use pollster::block_on;

use super::{assert_close, expected, golden, ids, json};

/// Greedy decoding gives transformers' ids, for a model of `tests/golden/models`.
pub fn greedy_ids_equal_those_of_transformers<E: Engine>(name: &str, engine: &E) {
    let answers = json(&golden(&format!("models/{name}/expected.json")));
    let (mut cache, mut next, mut found) = (engine.new_cache(), ids(&answers["ids"]), Vec::new());
    for _ in 0..answers["greedy"].as_array().expect("greedy").len() {
        let output = block_on(engine.forward(&mut cache, &next, Rows::Last, false)).expect("forward");
        next = vec![argmax(&output.logits).expect("argmax")];
        found.extend_from_slice(&next);
    }
    assert_eq!(found, ids(&answers["greedy"]), "{name}");
}

/// Cutting a prompt in two changes nothing, nor does going back. The engine holds the model `odd`.
pub fn every_split_of_a_prompt_gives_the_same_logits<E: Engine>(what: &str, engine: &E, tolerance: f32) {
    let ids = ids(&json(&golden("models/odd/expected.json"))["ids"]);
    let mut whole = engine.new_cache();
    let expected = block_on(engine.forward(&mut whole, &ids, Rows::Last, false)).expect("forward").logits;
    for cut in 1..ids.len() {
        let mut cache = engine.new_cache();
        block_on(engine.forward(&mut cache, &ids[..cut], Rows::None, false)).expect("first part");
        let found = block_on(engine.forward(&mut cache, &ids[cut..], Rows::Last, false)).expect("second part");
        assert_close(&format!("{what} cut at {cut}"), &found.logits, &expected, tolerance);

        let mut rewound = whole.clone();
        rewound.truncate(cut);
        let found = block_on(engine.forward(&mut rewound, &ids[cut..], Rows::Last, false)).expect("after truncate");
        assert_close(&format!("{what} truncated to {cut}"), &found.logits, &expected, tolerance);
    }
    assert_eq!(whole.n_tokens(), ids.len(), "a clone's changes are its own");
}

/// One pass over several texts gives each the bits that it has alone, and an error leaves all of them as they were. The
/// engine holds the model `odd`.
pub fn texts_in_one_pass_have_the_bits_of_texts_alone<E: Engine>(what: &str, engine: &E) {
    let ids = ids(&json(&golden("models/odd/expected.json"))["ids"]);
    // a token after a prompt, a whole prompt, the rest of one, a part whose logits nobody wants
    let (n, half) = (ids.len(), ids.len() / 2);
    let shares =
        [(n - 1, n, Rows::Last), (0, n, Rows::All), (half, n, Rows::Last), (0, half, Rows::None), (1, 2, Rows::All)];
    let cache = |n_past: usize| {
        let mut cache = engine.new_cache();
        if n_past > 0 {
            block_on(engine.forward(&mut cache, &ids[..n_past], Rows::None, false)).expect("before");
        }
        cache
    };
    for n_texts in 1..=shares.len() {
        let mut caches: Vec<_> = shares[..n_texts].iter().map(|&(from, ..)| cache(from)).collect();
        let rows = |caches| -> Vec<BatchRow<E::Cache>> {
            let texts = shares.iter().zip::<std::slice::IterMut<E::Cache>>(caches);
            texts.map(|(&(from, to, rows), cache)| BatchRow { cache, ids: &ids[from..to], rows }).collect()
        };
        let mut texts = rows(caches.iter_mut());
        if let Some(last) = texts.last_mut() {
            let ids = std::mem::replace(&mut last.ids, &[u32::MAX]);
            block_on(engine.forward_batch(&mut texts)).expect_err("no such token");
            texts.iter().zip(&shares).for_each(|(text, share)| assert_eq!(text.cache.n_tokens(), share.0, "{what}"));
            texts[n_texts - 1].ids = ids;
        }
        let found = block_on(engine.forward_batch(&mut texts)).expect("a pass");
        for (i, (&(from, to, rows), found)) in shares.iter().zip(found).enumerate() {
            let alone = block_on(engine.forward(&mut cache(from), &ids[from..to], rows, false)).expect("alone");
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found.logits), bits(&alone.logits), "{what}, text {i} of {n_texts}");
            assert_eq!(found.attentions, None, "{what}");
            assert_eq!(caches[i].n_tokens(), to, "{what}");
        }
    }
    assert_eq!(block_on(engine.forward_batch(&mut [])).expect("nothing to do"), []);
}

/// Attention weights are transformers'. The engine holds the model `base`.
pub fn attention_weights_come_when_asked_for<E: Engine>(engine: &E) {
    let folder = golden("models/base");
    let ids = ids(&json(&folder.join("expected.json"))["ids"]);
    let expected = expected(&folder.join("expected.safetensors"));
    let output = block_on(engine.forward(&mut engine.new_cache(), &ids, Rows::None, true)).expect("forward");
    for (i, weights) in output.attentions.expect("attentions").iter().enumerate() {
        assert_close(&format!("h.{i}"), weights, &expected[&format!("h.{i}.attn.weights")].1, 1e-4);
    }
    assert!(output.logits.is_empty());
}

/// The engine holds the model `one`, which has 7 tokens and a context window of 4.
pub fn bounds_are_errors_and_not_panics<E: Engine>(engine: &E) {
    let mut cache = engine.new_cache();
    let mut run = |ids: &[u32]| block_on(engine.forward(&mut cache, ids, Rows::Last, false)).map(|o| o.logits.len());
    assert_eq!(run(&[0, 1, 2, 3, 4]).expect_err("too long").code(), "context_window");
    assert_eq!(run(&[7]).expect_err("no such id").code(), "invalid_option");
    assert_eq!(run(&[]).expect_err("nothing").code(), "invalid_option");
    assert_eq!(run(&[0, 1, 2, 6]).expect("fits"), 7);
    assert_eq!(run(&[0]).expect_err("full").code(), "context_window");
}
