//! The loop: prefill the prompt once, then decode one token at a time.
//!
//! The caller pulls: each [`Session::step`] does a bounded piece of work and returns, so that a page can cancel between
//! any two of them. An engine for which a piece takes long lets the page live, and be heard, in its midst.
//!
//! Where an engine can choose the next token itself, a step reads that choice and the few best logits while the pass
//! after it runs already. The sampler here decides all the same: a pass that ran ahead of another token, or past the
//! end of the text, is taken back.

use std::rc::Rc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::options::{ContextOverflow, GenerateOptions};
use super::text::GrowingText;
use super::token_text::{TokenLogprob, named_logprobs};
use crate::engine::{Cache, Choose, Engine, Output, Rows};
use crate::error::{Error, Result};
use crate::sampler::{self, Sampler};
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// What one new token adds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Chunk {
    /// Text that is complete with this token; may be empty, never ends inside a character.
    pub text: String,
    /// The token.
    pub token_id: TokenId,
    /// Its log-probability under the model, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
    /// The most likely tokens, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<TokenLogprob>>,
    /// Attention of the position that predicted this token, if asked for: per block row-major [H, S].
    #[serde(skip)]
    pub attentions: Option<Vec<Vec<f32>>>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// End of text or a stop string.
    Stop,
    /// `max_new_tokens`, or the context window is full.
    Length,
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ran a part of the prompt, before the first new token.
    Prefill {
        /// Tokens that are computed by now; never fewer than the step before said.
        n_done: usize,
        /// Tokens that had to be run when the generation began: above 0, and the same in all its steps.
        n_total: usize,
    },
    /// Ran again a part of the text, between two new tokens: the window has slid, or the model is on another device.
    Refill,
    /// Chose a token; the last one says why it is the last.
    Token(Box<Chunk>, Option<FinishReason>),
}

/// A text with its KV cache, and the generation that is under way, if any.
pub struct Session<E: Engine> {
    engine: Rc<E>,
    tokenizer: Rc<Tokenizer>,
    /// The text so far: prompt and generated tokens.
    ids: Vec<TokenId>,
    /// Where in `ids` the context window begins: above 0 only after it has slid.
    window_start: usize,
    /// Holds `ids[window_start..window_start + n_tokens]`; at most all of them.
    cache: E::Cache,
    run: Option<Run<E>>,
}

impl<E: Engine> Clone for Session<E> {
    /// A copy of the text and its cache; a generation that is under way stays with the original.
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            tokenizer: self.tokenizer.clone(),
            ids: self.ids.clone(),
            window_start: self.window_start,
            cache: self.cache.clone(),
            run: None,
        }
    }
}

/// A generation under way.
struct Run<E: Engine> {
    options: GenerateOptions,
    sampler: Sampler,
    rng: Xoshiro256PlusPlus,
    text: GrowingText,
    /// How many of `ids` were there before the first new one.
    n_prompt: usize,
    /// How far the prompt is, of how many tokens that had to be run; `None` before its first piece.
    prefilled: Option<(usize, usize)>,
    /// How many of the best logits decide; `None` where it takes all of them, or something else is asked for as well.
    n_best: Option<usize>,
    /// The pass of the newest token, which the cache holds, if it has been submitted and its choice not been read.
    ahead: Option<E::Pending>,
}

impl<E: Engine> Run<E> {
    /// How the device is to choose the token that comes `n_later` after the next one. Coins are drawn from `rng` only
    /// when the sampler picks, so that a pass that is taken back leaves no trace.
    fn proposal(&self, k: usize, n_later: usize) -> Choose {
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
        }
    }
}

/// 53 random bits: uniform in [0, 1).
fn flip(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A cache in which passes run whose tokens are not known to be the text's: it goes back to what is, whatever happens.
struct Unproven<'a, C: Cache> {
    cache: &'a mut C,
    n_proven: usize,
}

impl<C: Cache> Drop for Unproven<'_, C> {
    fn drop(&mut self) {
        self.cache.truncate(self.n_proven);
    }
}

impl<E: Engine> Session<E> {
    /// An empty text.
    pub fn new(engine: Rc<E>, tokenizer: Rc<Tokenizer>) -> Self {
        let cache = engine.new_cache();
        Self { engine, tokenizer, ids: Vec::new(), window_start: 0, cache, run: None }
    }

    /// The text so far.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Tokens of the text that the context window holds now; one more than fit where the last one was chosen from a full
    /// window, which has no place for it.
    pub fn context_usage(&self) -> usize {
        self.ids.len() - self.window_start
    }

    /// Makes the text `ids`, keeping what the cache holds of the same beginning. Ends a generation under way.
    pub fn replace(&mut self, ids: Vec<TokenId>, reuse_prefix: bool) {
        let n_common = match reuse_prefix && self.window_start == 0 {
            true => self.ids.iter().zip(&ids).take_while(|(a, b)| a == b).count(),
            false => 0,
        };
        self.cache.truncate(n_common);
        (self.ids, self.window_start, self.run) = (ids, 0, None);
    }

    /// Appends to the text. Ends a generation under way.
    pub fn append(&mut self, ids: &[TokenId]) {
        self.ids.extend_from_slice(ids);
        self.run = None;
    }

    /// Takes the last `n_tokens` back. Ends a generation under way.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the text has fewer, or the window has slid past the place.
    pub fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        if n_tokens > self.context_usage() {
            let expected = format!("at most the {} tokens that the context holds", self.context_usage());
            return Err(Error::invalid_option("n_tokens", expected, n_tokens.to_string()));
        }
        self.ids.truncate(self.ids.len() - n_tokens);
        if self.window_start > 0 && self.context_usage() == 0 {
            // everything since the last slide is taken back: the text before it comes into the window again
            self.window_start = self.ids.len().saturating_sub((self.engine.config().n_positions / 2).max(1));
            self.cache.truncate(0);
        }
        self.cache.truncate(self.context_usage());
        self.run = None;
        Ok(())
    }

    /// Ends a generation under way; the text keeps what it has got.
    pub fn end(&mut self) {
        self.run = None;
    }

    /// Starts a generation after the text. `seed` is used if the options have none.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an empty text that nothing can start or an id beyond the vocabulary,
    /// [`Error::ContextWindow`] for a text that does not fit. With `context_overflow: "error"` that is also one whose
    /// `max_new_tokens` could not all be chosen; the last of them needs no place in the window.
    pub fn begin(&mut self, mut options: GenerateOptions, seed: u64) -> Result<()> {
        let config = self.engine.config();
        let n_ctx = config.n_positions;
        if self.ids.is_empty() {
            // an empty text starts from the token that begins every text
            let expected = "some text: this model has no `bos_token_id` to start from";
            self.ids.push(config.bos_token_id.ok_or_else(|| Error::invalid_option("prompt", expected, "nothing"))?);
        }
        crate::engine::check_ids(config, &self.ids)?;
        let n_prompt = self.ids.len();
        let n_window = self.context_usage();
        options.resolve_length(n_prompt);
        match options.context_overflow {
            ContextOverflow::Slide => {}
            ContextOverflow::Error if n_window.saturating_add(options.max_new_tokens - 1) > n_ctx => {
                let found = format!("{n_window} of prompt and {} of max_new_tokens", options.max_new_tokens);
                return Err(Error::ContextWindow { n_ctx, found });
            }
            _ if n_window > n_ctx => {
                return Err(Error::ContextWindow { n_ctx, found: format!("a prompt of {n_window}") });
            }
            _ => {}
        }
        let seed = *options.seed.get_or_insert(seed);
        // the last position is always run again: its logits choose the first token
        self.cache.truncate(n_window - 1);
        let sampler = Sampler::with_ends(&options.sampling, &options.eos_token_id, options.max_new_tokens);
        let is_plain = !options.logprobs && !options.output_attentions;
        self.run = Some(Run {
            n_best: if is_plain { sampler.n_best(self.engine.config().vocab_size) } else { None },
            ahead: None,
            sampler,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            text: GrowingText::new(&self.tokenizer, &self.ids, options.stop.clone()),
            n_prompt,
            prefilled: None,
            options,
        });
        Ok(())
    }

    /// The options of the generation under way, its seed included.
    pub fn options(&self) -> Option<&GenerateOptions> {
        self.run.as_ref().map(|run| &run.options)
    }

    /// Length of the prompt of the generation under way, tokens.
    pub fn n_prompt(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.n_prompt)
    }

    /// Does the next piece of work: runs at most `max_tokens` of the prompt (at least one), or chooses a token.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if no generation is under way, [`Error::InvalidLogits`] if the model's output is not
    /// finite or all of it is masked, [`Error::DeviceLost`] if the device fails, [`Error::Interrupted`] if the engine
    /// has been told to stop. An error ends the generation, except for the last two: the next step (after
    /// [`Session::move_to`], if the device is lost) goes on where this one was to.
    pub async fn step(&mut self, max_tokens: usize) -> Result<Step> {
        let Some(mut run) = self.run.take() else {
            return Err(Error::InvalidState("no generation is under way".into()));
        };
        let step = self.advance(&mut run, max_tokens.max(1)).await;
        match step {
            Ok(Step::Prefill { .. } | Step::Refill | Step::Token(_, None)) => self.run = Some(run),
            Err(Error::DeviceLost(_) | Error::Interrupted) => self.run = Some(Run { ahead: None, ..run }),
            Ok(Step::Token(_, Some(_))) | Err(_) => {}
        }
        step
    }

    /// Takes text and generation to another engine with the same model, whose cache is filled again when it is needed.
    pub fn move_to(&mut self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        self.cache = engine.new_cache();
        (self.engine, self.tokenizer) = (engine, tokenizer);
        if let Some(run) = &mut self.run {
            run.ahead = None;
        }
    }

    async fn advance(&mut self, run: &mut Run<E>, max_tokens: usize) -> Result<Step> {
        let n_ctx = self.engine.config().n_positions;
        if self.context_usage() > n_ctx {
            self.slide(n_ctx); // what does not slide has ended
        }
        let n_rest = self.rest().len();
        if n_rest > max_tokens {
            let chunk = self.rest()[..max_tokens].to_vec();
            self.engine.forward(&mut self.cache, &chunk, Rows::None, false).await?;
            if self.ids.len() > run.n_prompt {
                return Ok(Step::Refill);
            }
            // a move to another device may leave more to be run than there was: the progress waits for that
            let (n_done, n_total) = run.prefilled.unwrap_or((0, n_rest));
            // a GPU may still be computing what was submitted
            let n_under_way = self.cache.n_tokens().saturating_sub(self.cache.n_computed());
            let n_done = n_done.max(n_total.saturating_sub(n_rest - max_tokens + n_under_way));
            run.prefilled = Some((n_done, n_total));
            return Ok(Step::Prefill { n_done, n_total });
        }
        if let Some(token_id) = self.choose_ahead(run).await? {
            return Ok(self.accept(run, token_id, &Output::default(), 1));
        }
        let rest = self.rest().to_vec();
        let output = self.engine.forward(&mut self.cache, &rest, Rows::Last, run.options.output_attentions).await?;
        let coin = flip(&mut run.rng);
        let token_id = run.sampler.pick(&output.logits, &self.ids, run.n_prompt, coin)?;
        Ok(self.accept(run, token_id, &output, rest.len()))
    }

    /// What of the text is not in the cache.
    fn rest(&self) -> &[TokenId] {
        &self.ids[self.window_start + self.cache.n_tokens()..]
    }

    /// The next token from the few best logits, with the pass after it on its way. `None` where it takes all logits:
    /// the cache is then as it was before the pass.
    async fn choose_ahead(&mut self, run: &mut Run<E>) -> Result<Option<TokenId>> {
        let Some(n_best) = run.n_best else { return Ok(None) };
        let n_text = self.context_usage();
        let rest = &self.ids[self.window_start + self.cache.n_tokens()..];
        let mut unproven = Unproven { n_proven: self.cache.n_tokens(), cache: &mut self.cache };
        let pending = match run.ahead.take() {
            Some(pending) => {
                unproven.n_proven -= 1; // the pass of the newest token
                pending
            }
            None => match self.engine.propose(unproven.cache, rest, &run.proposal(n_best, 0))? {
                Some(pending) => pending,
                None => return Ok(None),
            },
        };
        let n_new = self.ids.len() + 1 - run.n_prompt;
        let is_last = n_new >= run.options.max_new_tokens || n_text >= self.engine.config().n_positions;
        let next = match is_last {
            true => None,
            false => self.engine.propose_next(unproven.cache, &pending, &run.proposal(n_best, 1))?,
        };
        let chosen = self.engine.chosen(pending).await?;
        let mut rng = run.rng.clone();
        let picked = match chosen.has_bad_logits {
            true => None,
            false => run.sampler.pick_from_best(&chosen.top, flip(&mut rng)),
        };
        let Some(token_id) = picked else { return Ok(None) };
        run.rng = rng;
        unproven.n_proven = n_text;
        if token_id == chosen.id && next.is_some() {
            (unproven.n_proven, run.ahead) = (n_text + 1, next);
        }
        Ok(Some(token_id))
    }

    /// Forgets all but the newer half of a window of text; what is left has new positions, so it is run afresh.
    fn slide(&mut self, n_ctx: usize) {
        self.window_start = self.ids.len() - (n_ctx / 2).max(1);
        self.cache.truncate(0);
    }

    /// Appends a token to the text. output: of the pass of `n_run` tokens that it was chosen from, as far as it was
    /// asked for
    fn accept(&mut self, run: &mut Run<E>, token_id: TokenId, output: &Output, n_run: usize) -> Step {
        let logits = &output.logits;
        self.ids.push(token_id);

        let n_new = self.ids.len() - run.n_prompt;
        let is_eos = run.options.eos_token_id.contains(&token_id);
        let (mut text, stopped) = match is_eos {
            true => run.text.push_end(&self.tokenizer, token_id),
            false => run.text.push(&self.tokenizer, token_id),
        };
        let is_full = self.context_usage() > self.engine.config().n_positions
            && run.options.context_overflow != ContextOverflow::Slide;
        let finish = match (is_eos || stopped, n_new >= run.options.max_new_tokens || is_full) {
            (true, _) => Some(FinishReason::Stop),
            (false, true) => Some(FinishReason::Length),
            (false, false) => None,
        };
        if finish.is_some() && !stopped {
            text.push_str(&run.text.finish());
        }
        let logprobs = run.options.logprobs;
        let chunk = Chunk {
            text,
            token_id,
            logprob: logprobs.then(|| sampler::log_prob(logits, token_id)),
            top_logprobs: logprobs.then(|| named_logprobs(&self.tokenizer, logits, run.options.top_logprobs)),
            attentions: output
                .attentions
                .as_ref()
                .map(|blocks| blocks.iter().map(|w| last_rows(w, self.engine.config().n_head, n_run)).collect()),
        };
        Step::Token(Box::new(chunk), finish)
    }

    /// Ends the generation early but softly. → text that was held back for a character or a stop string
    pub fn interrupt(&mut self) -> String {
        self.run.take().map_or(String::new(), |mut run| run.text.finish())
    }
}

/// The last new token's row of each head. weights: [H, T, S] → [H, S]
fn last_rows(weights: &[f32], n_head: usize, n_new: usize) -> Vec<f32> {
    let n_keys = weights.len() / (n_head * n_new);
    weights.chunks_exact(n_new * n_keys).flat_map(|head| &head[(n_new - 1) * n_keys..]).copied().collect()
}
