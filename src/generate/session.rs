//! The loop: prefill the prompt once, then decode one token at a time.
//!
//! The caller pulls: each [`Session::step`] does a bounded piece of work and returns, so that a page can cancel between
//! any two of them. An engine for which a piece takes long lets the page live, and be heard, in its midst. A scheduler
//! takes the step in three, so that several texts share the pass in the middle: plan, run, take.
//!
//! Where an engine can choose the next token itself, a step reads that choice and the few best logits while the pass
//! after it runs already. The sampler here decides all the same: a pass that ran ahead of another token, or past the
//! end of the text, is taken back. The same holds for tokens that were guessed from earlier text: they decide what is
//! computed already, and the sampler what is written.

use std::rc::Rc;

use super::options::{ContextOverflow, GenerateOptions};
use super::run::{Known, Pass, Run};
use super::step::{Chunk, FinishReason, Step};
use super::token_text::named_logprobs;
use crate::engine::{BatchRow, Cache, Engine, Output, Rows};
use crate::error::{Error, Result};
use crate::sampler;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;

/// What became of guesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Tokens that were run before it was known whether they come next.
    pub n_guessed: usize,
    /// How many of them came next.
    pub n_right: usize,
}

/// A text with its KV cache, and the generation that is under way, if any.
pub struct Session<E: Engine> {
    engine: Rc<E>,
    tokenizer: Rc<Tokenizer>,
    /// The text so far: prompt and generated tokens.
    ids: Vec<TokenId>,
    /// Where in `ids` the context window begins: above 0 only after it has slid.
    window_start: usize,
    /// Holds the first tokens of `ids[window_start..]`. Beyond the text it may hold guesses of the generation under way.
    cache: E::Cache,
    /// What it is computed with: the number of an adapter of the engine.
    adapter: Option<usize>,
    run: Option<Run<E>>,
    guesses: Guesses,
}

impl<E: Engine> Clone for Session<E> {
    /// A copy of the text and its cache; a generation that is under way stays with the original.
    fn clone(&self) -> Self {
        let mut cache = self.cache.clone();
        cache.truncate(self.context_usage());
        Self {
            engine: self.engine.clone(),
            tokenizer: self.tokenizer.clone(),
            ids: self.ids.clone(),
            window_start: self.window_start,
            cache,
            adapter: self.adapter,
            run: None,
            guesses: Guesses::default(),
        }
    }
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
        let (ids, guesses) = (Vec::new(), Guesses::default());
        Self { engine, tokenizer, ids, window_start: 0, cache, adapter: None, run: None, guesses }
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

    /// Bytes of its cache.
    pub fn cache_bytes(&self) -> usize {
        self.cache.n_bytes()
    }

    /// Frees the cache, which is filled again when it is needed. Ends a generation under way.
    pub fn drop_cache(&mut self) {
        self.end();
        self.cache = self.engine.new_cache_with(self.adapter);
    }

    /// What the text is computed with from now on, the whole of it: an adapter of the engine, or none.
    pub fn set_adapter(&mut self, adapter: Option<usize>) {
        if self.adapter != adapter {
            self.adapter = adapter;
            self.drop_cache();
        }
    }

    /// What the text is computed with.
    pub fn adapter(&self) -> Option<usize> {
        self.adapter
    }

    /// How many of the first tokens of `ids` the cache holds already.
    pub fn n_common(&self, ids: &[TokenId]) -> usize {
        match self.window_start {
            0 => self.ids.iter().zip(ids).take(self.cache.n_tokens()).take_while(|(a, b)| a == b).count(),
            _ => 0,
        }
    }

    /// Makes the text `ids`, keeping what the cache holds of the same beginning. Ends a generation under way.
    pub fn replace(&mut self, ids: Vec<TokenId>, reuse_prefix: bool) {
        let n_common = if reuse_prefix { self.n_common(&ids) } else { 0 };
        self.cache.truncate(n_common);
        (self.ids, self.window_start, self.run) = (ids, 0, None);
    }

    /// Appends to the text. Ends a generation under way.
    pub fn append(&mut self, ids: &[TokenId]) {
        self.end();
        self.ids.extend_from_slice(ids);
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
        self.end();
        Ok(())
    }

    /// Ends a generation under way; the text keeps what it has got.
    pub fn end(&mut self) {
        self.run = None;
        self.cache.truncate(self.context_usage());
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
        // the last position is always run again: its logits choose the first token
        self.cache.truncate(n_window - 1);
        let seed = options.seed.unwrap_or(seed);
        let mut run = Run::new(&*self.engine, &self.tokenizer, &self.ids, options, seed);
        run.lookup.begin(&self.ids[self.window_start..]);
        self.run = Some(run);
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

    /// What became of guesses since this was asked last.
    pub fn take_guesses(&mut self) -> Guesses {
        std::mem::take(&mut self.guesses)
    }

    /// Does the next piece of work: runs at most `max_tokens` of the prompt (at least one), or chooses a token.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if no generation is under way, [`Error::InvalidLogits`] if the model's output is not
    /// finite or all of it is masked, [`Error::DeviceLost`] if the device fails, [`Error::Interrupted`] if the engine
    /// has been told to stop. An error ends the generation, except for the last two: the next step (after
    /// [`Session::move_to`], if the device is lost) goes on where this one was to.
    pub async fn step(&mut self, max_tokens: usize) -> Result<Step> {
        if let Some(step) = self.take_known() {
            return step;
        }
        self.plan(max_tokens, 0)?;
        let Some(mut run) = self.run.take() else { return Err(no_generation()) };
        let step = self.advance(&mut run).await;
        self.keep(run, step)
    }

    /// Takes text and generation to another engine with the same model and adapters, whose cache is filled again when it is needed.
    pub fn move_to(&mut self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        self.cache = engine.new_cache_with(self.adapter);
        (self.engine, self.tokenizer) = (engine, tokenizer);
        if let Some(run) = &mut self.run {
            (run.ahead, run.known) = (None, None);
        }
    }

    /// How many tokens of the text have to be run for the next one; more than one where a prompt is read, or the window
    /// slides.
    pub(super) fn n_unread(&mut self) -> usize {
        let n_ctx = self.engine.config().n_positions;
        if self.context_usage() > n_ctx {
            self.slide(n_ctx); // what does not slide has ended
        }
        self.rest().len()
    }

    /// Whether a pass over several texts can do what this generation asks for.
    pub(super) fn fits_batch(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.options.output_attentions)
    }

    /// Decides what the next pass runs: at most `max_tokens` of a prompt (at least one), or the newest token and what is
    /// likely to follow. n_others: rows of other texts in the same pass
    pub(super) fn plan(&mut self, max_tokens: usize, n_others: usize) -> Result<()> {
        let mut n_unread = self.n_unread();
        let n_ctx = self.engine.config().n_positions;
        let n_text = self.context_usage();
        let Some(run) = &mut self.run else { return Err(no_generation()) };
        let n_new = self.ids.len() - run.n_prompt;
        let mut guess = Vec::new();
        if n_unread <= 1 {
            let most = (run.options.max_new_tokens - n_new - 1).min(n_ctx - n_text);
            guess = run.lookup.guess(&self.ids[self.window_start..], most, n_others);
        }
        if !guess.is_empty() && run.ahead.take().is_some() {
            self.cache.truncate(n_text - 1); // one pass over the guesses instead of one for each
            n_unread = 1;
        }
        let mut ids = self.ids[self.ids.len() - n_unread..].to_vec();
        let rows = match (n_unread > max_tokens.max(1), guess.is_empty()) {
            (true, _) => Rows::None,
            (false, true) => Rows::Last,
            (false, false) => Rows::All,
        };
        ids.truncate(max_tokens.max(1));
        ids.extend(&guess);
        run.pass = Pass { ids, n_guess: guess.len(), rows };
        Ok(())
    }

    /// Takes the pass of the newest token back if it runs already, so that it can run together with other texts.
    pub(super) fn take_back(&mut self) {
        let n_text = self.context_usage();
        if let Some(run) = &mut self.run
            && run.ahead.take().is_some()
        {
            self.cache.truncate(n_text - 1);
        }
    }

    /// The planned pass.
    pub(super) fn row(&mut self) -> Result<BatchRow<'_, E::Cache>> {
        let Some(Run { pass: Pass { ids, rows, .. }, .. }) = &self.run else { return Err(no_generation()) };
        Ok(BatchRow { cache: &mut self.cache, ids, rows: *rows })
    }

    /// Takes what the planned pass has given.
    pub(super) fn take(&mut self, output: Output) -> Result<Step> {
        let Some(mut run) = self.run.take() else { return Err(no_generation()) };
        let step = self.take_output(&mut run, output);
        self.keep(run, step)
    }

    /// The next token, if its logits are known already.
    pub(super) fn take_known(&mut self) -> Option<Result<Step>> {
        let mut run = self.run.take_if(|run| run.known.is_some())?;
        let known = run.known.take()?;
        let step = self.choose(&mut run, known);
        Some(self.keep(run, step))
    }

    /// Notes that the planned pass has failed; the generation ends unless it can go on where it was.
    pub(super) fn fail(&mut self, error: &Error) {
        match error {
            Error::DeviceLost(_) | Error::Interrupted => {
                if let Some(run) = &mut self.run {
                    run.ahead = None;
                }
            }
            _ => self.end(),
        }
    }

    /// The same text with a generation of its own: the planned pass has run, and nothing was chosen from it yet.
    pub(super) fn fork(&self, seed: u64) -> Self {
        let mut fork = self.clone();
        fork.run = self.run.as_ref().map(|run| {
            let mut own = Run::new(&*self.engine, &self.tokenizer, &self.ids, run.options.clone(), seed);
            own.lookup.begin(&self.ids[self.window_start..]);
            own.pass = run.pass.clone();
            own
        });
        fork
    }

    /// Puts a generation back after a step, unless that was its last one.
    fn keep(&mut self, run: Run<E>, step: Result<Step>) -> Result<Step> {
        match &step {
            Ok(Step::Token(_, Some(_))) => self.end(),
            Ok(_) => self.run = Some(run),
            Err(error) => {
                self.run = Some(run);
                self.fail(error);
            }
        }
        step
    }

    /// Runs the planned pass, and takes what it gives.
    async fn advance(&mut self, run: &mut Run<E>) -> Result<Step> {
        if run.pass.rows == Rows::Last
            && let Some(token_id) = self.choose_ahead(run).await?
        {
            let none = Known::new(Output::default(), Vec::new(), 0);
            return Ok(self.accept(run, token_id, &none));
        }
        if run.pass.rows == Rows::Last {
            run.pass.ids = self.rest().to_vec(); // what ran ahead of the plan was taken back
        }
        let Pass { ids, rows, .. } = &run.pass;
        let with_attentions = run.options.output_attentions && *rows != Rows::None;
        let output = self.engine.forward(&mut self.cache, ids, *rows, with_attentions).await?;
        self.take_output(run, output)
    }

    fn take_output(&mut self, run: &mut Run<E>, output: Output) -> Result<Step> {
        let Pass { ids, n_guess, rows } = &run.pass;
        if *rows != Rows::None {
            self.guesses.n_guessed += n_guess;
            let guess = ids[ids.len() - n_guess..].to_vec();
            return self.choose(run, Known::new(output, guess, self.engine.config().vocab_size));
        }
        if self.ids.len() > run.n_prompt {
            return Ok(Step::Refill);
        }
        let n_rest = self.rest().len();
        // a move to another device may leave more to be run than there was: the progress waits for that
        let (n_done, n_total) = run.prefilled.unwrap_or((0, n_rest + ids.len()));
        // a GPU may still be computing what was submitted
        let n_under_way = self.cache.n_tokens().saturating_sub(self.cache.n_computed());
        let n_done = n_done.max(n_total.saturating_sub(n_rest + n_under_way));
        run.prefilled = Some((n_done, n_total));
        Ok(Step::Prefill { n_done, n_total })
    }

    /// Chooses the next token from logits that are known. What was guessed wrong goes from the cache.
    fn choose(&mut self, run: &mut Run<E>, mut known: Known) -> Result<Step> {
        let coin = run.flip();
        let token_id = run.sampler.pick(known.logits(), &self.ids, run.n_prompt, coin)?;
        let step = self.accept(run, token_id, &known);
        if known.advance(token_id) {
            self.guesses.n_right += 1;
            run.known = Some(known);
        } else {
            self.cache.truncate(self.context_usage() - 1);
        }
        Ok(step)
    }

    /// What of the text is not in the cache.
    fn rest(&self) -> &[TokenId] {
        self.ids.get(self.window_start + self.cache.n_tokens()..).unwrap_or_default()
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
        let coin = run.peek(); // used up only if it decides
        let picked = match chosen.has_bad_logits {
            true => None,
            false if run.draws_from_all => chosen.proven(coin),
            false => run.sampler.pick_from_best(&chosen.top, coin),
        };
        let Some(token_id) = picked else { return Ok(None) };
        run.flip();
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
        if let Some(run) = &mut self.run {
            run.lookup.begin(&self.ids[self.window_start..]);
        }
    }

    /// Appends a token to the text. known: what it was chosen from, as far as it was asked for
    fn accept(&mut self, run: &mut Run<E>, token_id: TokenId, known: &Known) -> Step {
        self.ids.push(token_id);
        run.lookup.observe(&self.ids[self.window_start..]);

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
            logprob: logprobs.then(|| sampler::log_prob(known.logits(), token_id)),
            top_logprobs: logprobs.then(|| named_logprobs(&self.tokenizer, known.logits(), run.options.top_logprobs)),
            attentions: known.attentions().map(|blocks| {
                let n_head = self.engine.config().n_head;
                blocks.iter().map(|w| last_rows(w, n_head, run.pass.ids.len())).collect()
            }),
        };
        Step::Token(Box::new(chunk), finish)
    }

    /// Ends the generation early but softly. → text that was held back for a character or a stop string
    pub fn interrupt(&mut self) -> String {
        let held = self.run.as_mut().map_or(String::new(), |run| run.text.finish());
        self.end();
        held
    }
}

/// The last new token's row of each head. weights: [H, T, S] → [H, S]
fn last_rows(weights: &[f32], n_head: usize, n_new: usize) -> Vec<f32> {
    let n_keys = weights.len() / (n_head * n_new);
    weights.chunks_exact(n_new * n_keys).flat_map(|head| &head[(n_new - 1) * n_keys..]).copied().collect()
}

fn no_generation() -> Error {
    Error::InvalidState("no generation is under way".into())
}
