//! A generation under way: what a session holds of it between two steps.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::lookup::Lookup;
use super::options::GenerateOptions;
use super::text::GrowingText;
use crate::engine::{Choose, Engine, Output, Rows};
use crate::sampler::Sampler;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// A generation under way.
pub(super) struct Run<E: Engine> {
    pub options: GenerateOptions,
    pub sampler: Sampler,
    rng: Xoshiro256PlusPlus,
    pub text: GrowingText,
    /// How many of the session's ids were there before the first new one.
    pub n_prompt: usize,
    /// How far the prompt is, of how many tokens that had to be run; `None` before its first piece.
    pub prefilled: Option<(usize, usize)>,
    /// How many of the best logits decide; `None` where it takes all of them, or something else is asked for as well.
    pub n_best: Option<usize>,
    /// Whether the device draws from the whole vocabulary.
    pub draws_from_all: bool,
    /// The pass of the newest token, which the cache holds, if it has been submitted and its choice not been read.
    pub ahead: Option<E::Pending>,
    /// Guesses of what comes next; it is off on engines that would not give the same bits with them.
    pub lookup: Lookup,
    /// The pass that comes next, or is running.
    pub pass: Pass,
    /// What the last pass has computed and no token has been chosen from yet.
    pub known: Option<Known>,
}

/// What comes back of a draw from the whole vocabulary, in pairs.
const TOLD_OF_A_DRAW: usize = 3;

/// Tokens to run.
#[derive(Clone, Default)]
pub(super) struct Pass {
    /// What of the text is not in the cache, as far as this pass goes; then the guesses.
    pub ids: Vec<TokenId>,
    /// How many of `ids` are guesses; above 0 only after a single token of the text.
    pub n_guess: usize,
    pub rows: Rows,
}

/// Logits of the newest token and, beyond it, of tokens that were guessed: each row counts as long as every guess before
/// it is what was chosen.
pub(super) struct Known {
    output: Output,
    /// Values in a row: V.
    n_row: usize,
    /// The row that belongs to the newest token.
    row: usize,
    guess: Vec<TokenId>,
}

impl Known {
    /// What a pass gave whose last tokens were `guess`. vocab_size: V
    pub fn new(output: Output, guess: Vec<TokenId>, vocab_size: usize) -> Self {
        Self { output, n_row: vocab_size, row: 0, guess }
    }

    /// The newest token's logits: \[V\]
    pub fn logits(&self) -> &[f32] {
        &self.output.logits[self.row * self.n_row..][..self.n_row]
    }

    /// Attention weights of the pass, if they were asked for.
    pub fn attentions(&self) -> Option<&Vec<Vec<f32>>> {
        self.output.attentions.as_ref()
    }

    /// Moves on to the token that was chosen. → whether it was guessed, so that its logits are known as well
    pub fn advance(&mut self, token_id: TokenId) -> bool {
        let is_hit = self.guess.get(self.row) == Some(&token_id);
        self.row += 1;
        is_hit
    }
}

impl<E: Engine> Run<E> {
    /// A generation after the text `ids`.
    pub fn new(engine: &E, tokenizer: &Tokenizer, ids: &[TokenId], options: GenerateOptions, seed: u64) -> Self {
        let options = GenerateOptions { seed: Some(seed), ..options };
        let sampler = Sampler::with_ends(&options.sampling, &options.eos_token_id, options.max_new_tokens);
        let is_plain = !options.logprobs && !options.output_attentions;
        let vocab_size = engine.config().vocab_size;
        let may_choose = is_plain && engine.chooses();
        let draws_from_all = may_choose && sampler.draws_from_all(vocab_size);
        let n_best = match (may_choose, draws_from_all) {
            (false, _) => None,
            (true, true) => Some(TOLD_OF_A_DRAW),
            (true, false) => sampler.n_best(vocab_size),
        };
        // to verify guesses the host needs all logits, and then the device could not run ahead
        let may_guess = engine.is_exact() && !options.output_attentions && n_best.is_none();
        let max_guess = if may_guess { options.prompt_lookup_num_tokens.most() } else { Some(0) };
        Self {
            n_best,
            draws_from_all,
            ahead: None,
            sampler,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            text: GrowingText::new(tokenizer, ids, options.stop.clone()),
            n_prompt: ids.len(),
            prefilled: None,
            lookup: Lookup::new(max_guess),
            pass: Pass::default(),
            known: None,
            options,
        }
    }

    /// The random number of the next token.
    pub fn flip(&mut self) -> f64 {
        flip(&mut self.rng)
    }

    /// As [`Self::flip`], without using it up.
    pub fn peek(&self) -> f64 {
        flip(&mut self.rng.clone())
    }

    /// How the device is to choose the token that comes `n_later` after the next one. Coins are drawn from `rng` only
    /// when the sampler picks, so that a pass that is taken back leaves no trace.
    pub fn proposal(&self, k: usize, n_later: usize) -> Choose {
        let (p, mut rng) = (&self.options.sampling, self.rng.clone());
        for _ in 0..n_later {
            flip(&mut rng);
        }
        Choose {
            k,
            top_k: p.top_k.min(k),
            do_sample: p.do_sample,
            temperature: if p.do_sample { p.temperature as f32 } else { 1.0 },
            top_p: p.top_p as f32,
            min_p: p.min_p as f32,
            coin: flip(&mut rng) as f32,
            whole: self.draws_from_all,
        }
    }
}

/// 53 random bits: uniform in [0, 1).
fn flip(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// The seed of the text with number `index` among those of one prompt: they are as good as unrelated, and each text can
/// be written alone again with its own. 53 bits, so that it is exact as a JavaScript number (splitmix64, Steele et al.
/// 2014).
pub(super) fn sequence_seed(seed: u64, index: usize) -> u64 {
    if index == 0 {
        return seed;
    }
    let mut z = seed.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 11
}
