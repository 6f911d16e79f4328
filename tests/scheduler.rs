//! Many texts at once on the CPU engine, with the demo model: whatever the company, each text is what it is alone, to
//! the bit, with guesses or without.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use common::*;
use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::cpu::Linked;
use gpt2_web::engine::{BatchRow, CpuEngine, Engine, Output, Rows};
use gpt2_web::generate::{Chunk, Event, FinishReason, News, Scheduler, Scorer, Session, Step};
use gpt2_web::{Error, Result};
use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a text has become so far.
#[derive(Clone, Debug, Default, PartialEq)]
struct Text {
    chunks: Vec<Chunk>,
    finish: Option<FinishReason>,
    error: Option<String>,
}

impl Text {
    fn take(&mut self, news: News) {
        assert!(self.finish.is_none() && self.error.is_none(), "news of a text that has ended: {news:?}");
        match news {
            News::Step(Step::Token(chunk, finish)) => {
                self.chunks.push(*chunk);
                self.finish = finish;
            }
            News::Step(_) | News::Scored(..) => {}
            News::Failed(error) => self.error = Some(error.to_string()),
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.chunks.iter().map(|chunk| chunk.token_id).collect()
    }
}

/// A generation that has begun.
fn begun<E: Engine>(demo: &Demo<E>, prompt: &[u32], given: &Value) -> Session<E> {
    let mut session = demo.session();
    session.append(prompt);
    session.begin(demo.options(given.clone()), 0).expect("begin");
    session
}

/// The text that nobody is beside, without guesses.
fn alone<E: Engine>(demo: &Demo<E>, prompt: &[u32], given: &Value, max_tokens: usize) -> Text {
    let mut given = given.clone();
    given["prompt_lookup_num_tokens"] = 0.into();
    let mut session = begun(demo, prompt, &given);
    let mut text = Text::default();
    while text.finish.is_none() && text.error.is_none() {
        let step = block_on(session.step(max_tokens));
        text.take(step.map_or_else(News::Failed, News::Step));
    }
    text
}

/// Runs a scheduler until nobody is left. → each text by its number
fn run<E: Engine>(scheduler: &Scheduler<E>, max_tokens: usize) -> HashMap<u32, Text> {
    let mut texts: HashMap<u32, Text> = HashMap::new();
    while scheduler.n_texts() != (0, 0) {
        for Event { id, news } in block_on(scheduler.step(max_tokens)).expect("step") {
            texts.entry(id).or_default().take(news);
        }
    }
    texts
}

/// Prompts and options of every kind.
fn kinds<E: Engine>(demo: &Demo<E>) -> Vec<(Vec<u32>, Value)> {
    let verse = demo.encode("The cat sat on the mat. The dog sat on the log. ");
    let everything: Vec<usize> = (0..demo.engine.config().vocab_size).collect();
    let free = |mut given: Value| {
        given["eos_token_id"] = Value::Null;
        given
    };
    vec![
        (demo.encode("The old king"), free(json!({ "max_new_tokens": 24 }))),
        (verse.repeat(4), free(json!({ "max_new_tokens": 40, "top_logprobs": 2 }))),
        (verse.repeat(3), free(json!({ "max_new_tokens": 30, "seed": 5, "temperature": 0.3, "logprobs": true }))),
        (
            demo.encode(LONG),
            free(json!({ "max_new_tokens": 25, "seed": 9, "repetition_penalty": 1.3, "frequency_penalty": 0.5 })),
        ),
        (demo.prompt(130), free(json!({ "max_new_tokens": 20, "seed": 2, "top_p": 0.9, "top_k": 0 }))),
        (demo.encode(LONG), free(json!({ "max_new_tokens": 40, "stop": [" the", "and "], "seed": 1 }))),
        (verse.repeat(2), free(json!({ "max_new_tokens": 16, "no_repeat_ngram_size": 3 }))),
        (demo.encode("Once upon"), free(json!({ "max_new_tokens": 4, "output_attentions": true }))),
        (
            demo.prompt(demo.n_ctx() - 6),
            free(json!({ "max_new_tokens": 14, "context_overflow": "slide", "min_p": 0.05, "seed": 3 })),
        ),
        (demo.encode("Nothing"), free(json!({ "max_new_tokens": 9, "suppress_tokens": everything }))),
    ]
}

/// When a text comes, and when it goes if it goes before its end.
#[derive(Clone, Debug)]
struct Visit {
    kind: usize,
    comes: usize,
    goes: Option<(usize, bool)>,
}

fn visit() -> impl Strategy<Value = Visit> {
    let goes = prop::option::weighted(0.3, (0..20_usize, any::<bool>()));
    (0..10_usize, 0..25_usize, goes).prop_map(|(kind, comes, stays)| {
        let goes = stays.map(|(n, is_soft)| (comes + n, is_soft));
        Visit { kind, comes, goes }
    })
}

thread_local! {
    static DEMOS: [Demo<CpuEngine<Linked>>; 4] = Dtype::ALL.map(|dtype| Demo::new(cpu(&demo(), dtype)));
}

fn check_visits<E: Engine>(
    demo: &Demo<E>,
    known: &mut HashMap<usize, Text>,
    n_seats: usize,
    max_tokens: usize,
    visits: &[Visit],
) {
    let kinds = kinds(demo);
    let scheduler = Scheduler::new(demo.engine.clone(), Some(n_seats));
    let mut numbers: Vec<Option<u32>> = vec![None; visits.len()];
    let mut texts: HashMap<u32, Text> = HashMap::new();
    let mut gone: Vec<bool> = vec![false; visits.len()];
    let last = visits.iter().map(|v| v.goes.map_or(v.comes, |(at, _)| at)).max().unwrap_or(0);
    let mut round = 0;
    while round <= last || scheduler.n_texts() != (0, 0) {
        for (i, Visit { kind, comes, goes }) in visits.iter().enumerate() {
            if *comes == round {
                let (prompt, given) = &kinds[*kind];
                let added = scheduler.add(begun(demo, prompt, given)).expect("add");
                assert_eq!(added.len(), 1);
                numbers[i] = Some(added[0].id);
                texts.insert(added[0].id, Text::default());
            }
            if let (Some((at, is_soft)), Some(number)) = (goes, numbers[i])
                && *at == round
            {
                gone[i] = true;
                match is_soft {
                    true => drop(scheduler.interrupt(number)),
                    false => {
                        let session = scheduler.leave(number).expect("it is there");
                        let n_new = texts[&number].chunks.len();
                        assert_eq!(session.ids().len(), kinds[*kind].0.len() + n_new, "it keeps what it has written");
                    }
                }
            }
        }
        let (n_seated, _) = scheduler.n_texts();
        assert!(n_seated <= n_seats);
        for Event { id, news } in block_on(scheduler.step(max_tokens)).expect("step") {
            texts.get_mut(&id).expect("a text that was given").take(news);
        }
        assert!(scheduler.running().is_empty());
        round += 1;
        assert!(round < 3000, "it goes on for ever");
    }
    for (i, Visit { kind, .. }) in visits.iter().enumerate() {
        let found = &texts[&numbers[i].expect("it came")];
        let (prompt, given) = &kinds[*kind];
        let expected = known.entry(*kind).or_insert_with(|| alone(demo, prompt, given, max_tokens));
        if gone[i] && found.finish.is_none() && found.error.is_none() {
            assert!(expected.chunks.starts_with(&found.chunks), "text {i} of {visits:?}: {:?}", found.ids());
        } else {
            assert!(found == expected, "text {i} of {visits:?}:\n{:?}\n{:?}", found.ids(), expected.ids());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_text_in_any_company_is_what_it_is_alone(
        n_seats in 1..=8_usize,
        max_tokens in prop::sample::select(&[1_usize, 7, 64][..]),
        dtype in 0..Dtype::ALL.len(),
        visits in prop::collection::vec(visit(), 1..10),
    ) {
        DEMOS.with(|demos| check_visits(&demos[dtype], &mut HashMap::new(), n_seats, max_tokens, &visits));
    }
}

/// An engine that counts, fails when it is told to, and may be one on which nothing is shared.
struct Watched {
    inner: CpuEngine<Linked>,
    shares: bool,
    /// Tokens of each text in each pass.
    passes: RefCell<Vec<Vec<usize>>>,
    /// What the passes give instead, from the last on.
    faults: RefCell<Vec<Error>>,
    /// Most texts in a pass that there is memory for.
    most: Cell<usize>,
}

impl Watched {
    fn new(shares: bool) -> Self {
        let inner = cpu(&demo(), Dtype::Q8);
        Self { inner, shares, passes: RefCell::default(), faults: RefCell::default(), most: Cell::new(usize::MAX) }
    }

    /// Notes a pass; an error if there is one to be given.
    fn note(&self, n_tokens: Vec<usize>) -> Result<()> {
        if n_tokens.len() > self.most.get() {
            return Err(Error::OutOfMemory { what: "a pass".into(), n_bytes: 0 });
        }
        self.passes.borrow_mut().push(n_tokens);
        self.faults.borrow_mut().pop().map_or(Ok(()), Err)
    }
}

impl Engine for Watched {
    type Cache = <CpuEngine<Linked> as Engine>::Cache;
    type Pending = std::convert::Infallible;

    fn config(&self) -> &Config {
        self.inner.config()
    }

    fn new_cache(&self) -> Self::Cache {
        self.inner.new_cache()
    }

    fn is_exact(&self) -> bool {
        self.shares
    }

    fn batch_pays(&self) -> bool {
        self.shares
    }

    async fn forward(&self, cache: &mut Self::Cache, ids: &[u32], rows: Rows, with_attentions: bool) -> Result<Output> {
        self.note(vec![ids.len()])?;
        self.inner.forward(cache, ids, rows, with_attentions).await
    }

    async fn forward_batch(&self, texts: &mut [BatchRow<'_, Self::Cache>]) -> Result<Vec<Output>> {
        self.note(texts.iter().map(|text| text.ids.len()).collect())?;
        self.inner.forward_batch(texts).await
    }
}

fn watched(shares: bool) -> Demo<Watched> {
    Demo::new(Watched::new(shares))
}

#[test]
fn an_engine_on_which_nothing_is_shared_runs_everybody_too() {
    let demo = watched(false);
    let visits: Vec<Visit> = (0..10).map(|kind| Visit { kind, comes: kind, goes: None }).collect();
    let mut known = HashMap::new();
    for n_seats in [1, 3] {
        check_visits(&demo, &mut known, n_seats, 16, &visits);
    }
    assert!(demo.engine.passes.borrow().iter().all(|pass| pass.len() == 1));
    assert_eq!(Scheduler::new(demo.engine.clone(), None).n_seats(), 1);
    assert_eq!(Scheduler::new(watched(true).engine, None).n_seats(), 8);
}

#[test]
fn texts_of_one_prompt_read_it_once_and_are_those_of_their_seeds() {
    for shares in [true, false] {
        let demo = watched(shares);
        let prompt = demo.prompt(100);
        let given = json!({ "max_new_tokens": 20, "seed": 7, "top_logprobs": 1, "eos_token_id": null });
        let mut several = given.clone();
        several["num_return_sequences"] = 5.into();
        let scheduler = Scheduler::new(demo.engine.clone(), Some(4));
        let sequences = scheduler.add(begun(&demo, &prompt, &several)).expect("add");
        let mut seeds: Vec<u64> = sequences.iter().map(|s| s.seed).collect();
        assert_eq!((seeds.len(), seeds[0]), (5, 7), "the first has the request's own seed");
        assert!(seeds.iter().all(|&seed| seed < 1 << 53), "exact as JavaScript's numbers: {seeds:?}");
        let texts = run(&scheduler, 64);
        let n_rows: usize = demo.engine.passes.borrow().iter().flatten().sum();
        let guesses = scheduler.guesses();
        assert_eq!(n_rows, 100 + 5 * 19 + guesses.n_guessed - guesses.n_right, "shares: {shares}");
        for sequence in &sequences {
            let mut own = given.clone();
            own["seed"] = sequence.seed.into();
            assert_eq!(texts[&sequence.id], alone(&demo, &prompt, &own, 64));
        }
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 5);
        let distinct: std::collections::HashSet<_> = texts.values().map(Text::ids).collect();
        assert_eq!(distinct.len(), 5, "another seed, another text");
    }
}

#[test]
fn several_greedy_texts_are_refused_as_in_transformers() {
    let demo = watched(true);
    let Value::Object(given) = json!({ "num_return_sequences": 2 }) else { panic!("an object") };
    let config = demo.engine.config();
    let error = demo.options(json!({})).with(&given, config).expect_err("greedy");
    assert!(matches!(&error, Error::InvalidOption { option, .. } if option == "num_return_sequences"), "{error}");
    demo.options(json!({ "num_return_sequences": 2, "seed": 1 }));
}

#[test]
fn texts_of_one_prompt_share_its_memory() {
    let demo = watched(true);
    let given = json!({ "max_new_tokens": 8, "seed": 7, "num_return_sequences": 6, "eos_token_id": null });
    let scheduler = Scheduler::new(demo.engine.clone(), Some(6));
    let sequences = scheduler.add(begun(&demo, &demo.prompt(192), &given)).expect("add");
    run(&scheduler, 64);
    let sessions: Vec<_> = sequences.iter().map(|s| scheduler.leave(s.id).expect("done")).collect();
    let each = sessions[0].cache_bytes();
    let all = demo.engine.inner.kernels().all_bytes();
    // the prompt fills a page and begins a second one, on which each text goes on
    assert_eq!(all, (1 + 6) * each / 2, "{all} bytes for six texts of {each}");
    drop(sessions);
    assert_eq!(demo.engine.inner.kernels().all_bytes(), 0);
}

#[test]
fn guesses_save_passes_and_change_nothing() {
    let demo = watched(true);
    let prompt = demo.encode("The cat sat on the mat. ");
    // with a handful of tokens to choose from, a text repeats itself
    let bias: Value = prompt.iter().map(|id| (id.to_string(), json!(100))).collect::<serde_json::Map<_, _>>().into();
    let given = json!({ "max_new_tokens": 80, "top_logprobs": 2, "logit_bias": bias, "eos_token_id": null });
    let expected = alone(&demo, &prompt, &given, 64);
    let n_plain = demo.engine.passes.take().len();
    for (most, is_faster) in [(json!("auto"), true), (json!(3), true), (json!(0), false), (Value::Null, false)] {
        let mut own = given.clone();
        own["prompt_lookup_num_tokens"] = most.clone();
        let scheduler = Scheduler::new(demo.engine.clone(), None);
        let id = scheduler.add(begun(&demo, &prompt, &own)).expect("add")[0].id;
        assert_eq!(run(&scheduler, 64)[&id], expected, "{most}");
        let passes = demo.engine.passes.take();
        let guesses = scheduler.guesses();
        assert_eq!(passes.len() < n_plain * 2 / 3, is_faster, "{most}: {} passes, {n_plain} without", passes.len());
        assert_eq!(passes.len() + guesses.n_right, n_plain, "each right guess saves a pass");
        let n_most = most.as_u64().unwrap_or(u64::MAX) as usize;
        assert!(passes.iter().skip(2).flatten().all(|&n| n - 1 <= n_most.min(15)), "{most}: {passes:?}");
    }
    for wrong in [json!(-1), json!("yes"), json!(1.5), json!(true)] {
        let Value::Object(given) = json!({ "prompt_lookup_num_tokens": wrong }) else { panic!("an object") };
        demo.options(json!({})).with(&given, demo.engine.config()).expect_err("no such limit");
    }
}

#[test]
fn a_long_prompt_lets_others_write_and_nobody_waits_for_ever() {
    let demo = watched(true);
    let scheduler = Scheduler::new(demo.engine.clone(), Some(4));
    let given = json!({ "max_new_tokens": 40, "eos_token_id": null, "prompt_lookup_num_tokens": 0 });
    let writer = scheduler.add(begun(&demo, &demo.encode("The old king"), &given)).expect("add")[0].id;
    block_on(scheduler.step(64)).expect("the writer's prompt");
    demo.engine.passes.take();
    let readers = [200, 180].map(|n| scheduler.add(begun(&demo, &demo.prompt(n), &given)).expect("add")[0].id);
    let mut is_read = [false; 2];
    for round in 0..20 {
        let events = block_on(scheduler.step(64)).expect("step");
        let is_token = |e: &&Event| e.id == writer && matches!(e.news, News::Step(Step::Token(..)));
        assert_eq!(events.iter().filter(is_token).count(), 1, "round {round}");
        let n_rows: usize = demo.engine.passes.take().iter().flatten().sum();
        assert!(n_rows <= 17, "a pass beside a writer is short: {n_rows} rows");
        for id in readers {
            is_read[usize::from(id == readers[1])] |= events.iter().any(|e| e.id == id);
        }
        assert!(round != 1 || is_read == [true; 2], "prompts take turns");
    }
    // twelve texts on two seats: each has news again before everybody had two turns
    let scheduler = Scheduler::new(demo.engine.clone(), Some(2));
    let mut last: HashMap<u32, usize> = HashMap::new();
    for _ in 0..12 {
        last.insert(scheduler.add(begun(&demo, &demo.encode("Once upon"), &given)).expect("add")[0].id, 0);
    }
    for round in 1.. {
        if scheduler.n_texts() == (0, 0) {
            break;
        }
        for Event { id, news } in block_on(scheduler.step(64)).expect("step") {
            last.insert(id, if matches!(news, News::Step(Step::Token(_, Some(_)))) { usize::MAX } else { round });
        }
        let longest = last.values().filter(|&&at| at != usize::MAX).map(|at| round - at).max();
        assert!(longest.unwrap_or(0) <= 12 / 2 * 17, "round {round}: somebody waits since {longest:?} rounds");
    }
}

#[test]
fn what_is_nobodys_fault_ends_nobody() {
    let demo = watched(true);
    let kinds = kinds(&demo);
    let expected: Vec<Text> = kinds[..4].iter().map(|(prompt, given)| alone(&demo, prompt, given, 64)).collect();
    let scheduler = Scheduler::new(demo.engine.clone(), Some(4));
    let add = |(prompt, given): &(Vec<u32>, Value)| scheduler.add(begun(&demo, prompt, given)).expect("add")[0].id;
    let ids: Vec<u32> = kinds[..4].iter().map(add).collect();
    let mut texts: HashMap<u32, Text> = HashMap::new();
    let mut n_broken = 0;
    for round in 0.. {
        if scheduler.n_texts() == (0, 0) {
            break;
        }
        match round % 5 {
            1 => demo.engine.faults.borrow_mut().push(Error::Interrupted),
            3 => demo.engine.faults.borrow_mut().push(Error::DeviceLost("gone".into())),
            4 => demo.engine.most.set(1), // all of them together are too many
            _ => demo.engine.most.set(usize::MAX),
        }
        match block_on(scheduler.step(64)) {
            Ok(events) => events.into_iter().for_each(|e| texts.entry(e.id).or_default().take(e.news)),
            Err(Error::DeviceLost(_)) => {
                n_broken += 1;
                scheduler.move_to(demo.engine.clone(), demo.tokenizer.clone());
            }
            Err(error) => assert_eq!(error.code(), "interrupted"),
        }
    }
    assert!(n_broken > 2);
    for (id, expected) in ids.iter().zip(&expected) {
        assert_eq!(&texts[id], expected);
    }
}

#[test]
fn a_text_at_fault_takes_nobody_with_it() {
    let demo = watched(true);
    let kinds = kinds(&demo);
    let scheduler = Scheduler::new(demo.engine.clone(), Some(4));
    let add = |i: usize| scheduler.add(begun(&demo, &kinds[i].0, &kinds[i].1)).expect("add")[0].id;
    let (good, bad) = (add(0), add(9));
    let texts = run(&scheduler, 64);
    assert_eq!(texts[&good], alone(&demo, &kinds[0].0, &kinds[0].1, 64));
    assert!(texts[&bad].error.is_some() && texts[&bad].chunks.is_empty());
    assert_eq!(scheduler.leave(bad).expect("it is there").ids(), kinds[9].0);
    assert!(scheduler.leave(bad).is_none() && scheduler.leave(99).is_none());
    let idle = demo.session();
    assert_eq!(scheduler.add(idle).expect_err("no generation").code(), "invalid_state");
}

#[test]
fn texts_are_scored_beside_others() {
    let demo = watched(true);
    let scorer = |ids: Vec<u32>| Scorer::new(demo.engine.clone(), demo.tokenizer.clone(), ids).expect("scorer");
    let long = demo.prompt(300);
    let mut lonely = scorer(long.clone());
    while !lonely.is_done() {
        block_on(lonely.step(32)).expect("step");
    }
    let expected = lonely.finish();
    let scheduler = Scheduler::new(demo.engine.clone(), Some(3));
    let (prompt, given) = &kinds(&demo)[2];
    let text = scheduler.add(begun(&demo, prompt, given)).expect("add")[0].id;
    let scored = [long, vec![5]].map(|ids| scheduler.add_score(scorer(ids)));
    assert_eq!(run(&scheduler, 64)[&text], alone(&demo, prompt, given, 64));
    assert_eq!(scheduler.score(scored[0]).expect("scored"), expected);
    assert_eq!(scheduler.score(scored[1]).expect("scored").tokens.len(), 1);
    assert!(scheduler.score(scored[0]).is_none());
}
