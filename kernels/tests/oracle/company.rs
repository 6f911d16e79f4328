//! A text's bits are those of the text alone: whatever company it is computed in, and however it was cut, rewound or
//! copied before.

use std::sync::atomic::AtomicU32;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::cache::{Cache, PAGE};
use gpt2_kernels::forward::Pass;
use gpt2_kernels::noise::fill;
use gpt2_kernels::team::Platform;
use gpt2_kernels::{Dims, Dtype, Forward, PackedModel, Rows};

use crate::input::{Rng, dims};

const N_TEXTS: usize = 8;
const N_POSITIONS: usize = 2 * PAGE + 20;

/// What happens to the texts.
#[derive(Clone, Debug)]
enum Action {
    /// These texts, each with so many new tokens, in one pass.
    Pass(Vec<(usize, usize)>),
    /// A text forgets all but so many tokens.
    Rewind(usize, usize),
    /// A text begins anew as a copy of another.
    Copy(usize, usize),
}

/// A thread that should sleep lets others run instead.
enum Yielding {}

impl Platform for Yielding {
    fn sleep(_: &AtomicU32, _: u32) {
        std::thread::yield_now();
    }
    fn wake(_: &AtomicU32) {}
}

fn team(pass: &Pass) {
    std::thread::scope(|scope| {
        (1..pass.n_members()).for_each(|member| drop(scope.spawn(move || pass.run::<Yielding>(member))));
        pass.run::<Yielding>(0);
    });
}

fn model(dtype: Dtype, byte_dots: bool) -> PackedModel {
    let dims = Dims { n_positions: N_POSITIONS, n_head: 3, n_embd: 60, ..dims(60, 2, 90) };
    let mut model = PackedModel::new(dims, dtype).expect("memory");
    fill(&mut model, 1);
    model.use_byte_dots(byte_dots);
    model
}

/// Does all this, and holds the logits of every token of every pass against a fresh computation of its text alone.
fn check(model: &PackedModel, n_members: usize, actions: &[Action]) {
    let vocab_size = model.dims().vocab_size;
    let mut texts: Vec<Vec<u32>> = vec![Vec::new(); N_TEXTS];
    let mut caches: Vec<Option<Cache>> = (0..N_TEXTS).map(|_| Some(model.new_cache())).collect();
    let (mut scratch, mut scratch_alone) = (model.scratch(n_members), model.scratch(1));
    let mut next = 0;
    for (step, action) in actions.iter().enumerate() {
        match action {
            Action::Rewind(text, n) => {
                texts[*text].truncate(*n);
                caches[*text].as_mut().expect("a cache").truncate(*n);
            }
            Action::Copy(from, to) => {
                texts[*to] = texts[*from].clone();
                caches[*to] = caches[*from].clone();
            }
            Action::Pass(shares) => {
                let mut forward = Forward::batch(shares.iter().map(|&(text, n_new)| {
                    let ids: Vec<u32> = (0..n_new)
                        .map(|_| {
                            next += 1;
                            next * 7919 % vocab_size as u32
                        })
                        .collect();
                    texts[text].extend(&ids);
                    (ids, Rows::All)
                }));
                let mut taken: Vec<_> = shares.iter().map(|&(text, _)| caches[text].take().expect("once")).collect();
                assert!(model.forward(&mut forward, &mut scratch, &mut taken, team));
                for ((&(text, n_new), cache), output) in shares.iter().zip(taken).zip(&forward.outputs) {
                    assert_eq!(cache.n_tokens(), texts[text].len());
                    caches[text] = Some(cache);
                    let ids = &texts[text];
                    let fresh =
                        model.forward_alone(&mut scratch_alone, &mut model.new_cache(), ids, Rows::All, false).logits;
                    let expected = &fresh[(ids.len() - n_new) * vocab_size..];
                    assert!(expected.iter().all(|x| x.is_finite()));
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    let dtype = model.layout().dtype.name();
                    assert!(bits(&output.logits) == bits(expected), "{dtype}, step {step}, text {text}: {action:?}");
                }
            }
        }
    }
}

/// Makes each action possible for texts as long as the ones before have made them.
fn possible(actions: impl IntoIterator<Item = Action>) -> Vec<Action> {
    let mut lengths = [0; N_TEXTS];
    let fit = |action| match action {
        Action::Pass(shares) => {
            let mut once = Vec::new();
            for (text, n_new) in shares {
                if lengths[text] + n_new <= N_POSITIONS && once.iter().all(|&(other, _)| other != text) {
                    lengths[text] += n_new;
                    once.push((text, n_new));
                }
            }
            Action::Pass(once)
        }
        Action::Rewind(text, n) => {
            lengths[text] = lengths[text].min(n);
            Action::Rewind(text, lengths[text])
        }
        Action::Copy(from, to) => {
            lengths[to] = lengths[from];
            Action::Copy(from, to)
        }
    };
    actions.into_iter().map(fit).collect()
}

/// Texts join and leave at each step, prompts are read beside texts that grow by a token.
fn random(rng: &mut Rng, n: usize) -> Vec<Action> {
    let action = |_| match rng.below(8) {
        0 => Action::Rewind(rng.below(N_TEXTS), rng.below(PAGE + 5)),
        1 => Action::Copy(rng.below(N_TEXTS), rng.below(N_TEXTS)),
        _ => {
            let n_texts = 1 + rng.below(N_TEXTS);
            let share = |_| {
                let n_new = [1, 1, 1, 2, 5, 1 + rng.below(90)][rng.below(6)];
                (rng.below(N_TEXTS), n_new)
            };
            Action::Pass((0..n_texts).map(share).collect())
        }
    };
    possible((0..n).map(action).collect::<Vec<_>>())
}

#[test]
fn a_text_in_company_has_the_bits_of_a_text_alone() {
    for dtype in Dtype::ALL {
        for byte_dots in [false, true] {
            let model = model(dtype, byte_dots);
            let mut rng = Rng(8);
            (0..4).for_each(|_| check(&model, 1, &random(&mut rng, 12)));
        }
    }
}

#[test]
fn both_ways_to_multiply_give_the_same_bits() {
    for dtype in [Dtype::Q8, Dtype::Q4] {
        let ids: Vec<u32> = (0..70).collect();
        let [words, bytes] = [false, true].map(|byte_dots| {
            let model = model(dtype, byte_dots);
            let ids: Vec<u32> = ids.iter().map(|id| id % model.dims().vocab_size as u32).collect();
            model.forward_alone(&mut model.scratch(1), &mut model.new_cache(), &ids, Rows::All, false).logits
        });
        assert!(words.iter().zip(&bytes).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", dtype.name());
    }
}

#[test]
fn copies_share_their_pages_until_they_write() {
    for dtype in [Dtype::Fp32, Dtype::Q8] {
        let model = model(dtype, false);
        let mut scratch = model.scratch(1);
        let mut first = model.new_cache();
        let ids = vec![1; PAGE + 3];
        let mut run = |cache: &mut Cache, ids: &[u32]| {
            let promised = cache.reserve_bytes(ids.len());
            model.forward_alone(&mut scratch, cache, ids, Rows::None, false);
            promised
        };
        run(&mut first, &ids);
        let page = first.n_bytes() / 2;
        let mut second = first.clone();
        assert_eq!(Cache::n_bytes_of([&first, &second].into_iter()), 2 * page, "as long as both are the same");
        assert_eq!(run(&mut second, &[2]), page, "a copy of the page that it writes to");
        assert_eq!(Cache::n_bytes_of([&first, &second].into_iter()), 3 * page);
        assert_eq!(second.n_bytes(), 2 * page);
        assert_eq!(run(&mut second, &[3]), 0, "that page is its own now");
        assert_eq!(run(&mut first, &[3]), 0, "and the other one's");
        second.truncate(PAGE);
        assert_eq!(Cache::n_bytes_of([&first, &second].into_iter()), 2 * page, "a rewound text frees its page");
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod any {
    use proptest::prelude::*;

    use super::*;

    fn action() -> impl Strategy<Value = Action> {
        let share = (0..N_TEXTS, prop_oneof![3 => 1..3_usize, 1 => 1..100_usize]);
        prop_oneof![
            6 => prop::collection::vec(share, 1..=N_TEXTS).prop_map(Action::Pass),
            1 => (0..N_TEXTS, 0..N_POSITIONS).prop_map(|(text, n)| Action::Rewind(text, n)),
            1 => (0..N_TEXTS, 0..N_TEXTS).prop_map(|(from, to)| Action::Copy(from, to)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_text_in_any_company_has_the_bits_of_a_text_alone(
            dtype in prop::sample::select(&Dtype::ALL[..]),
            byte_dots: bool,
            n_members in 1..=2_usize,
            actions in prop::collection::vec(action(), 1..12),
        ) {
            check(&model(dtype, byte_dots), n_members, &possible(actions));
        }
    }
}
