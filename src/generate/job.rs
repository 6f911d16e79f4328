//! A text that has been given to the scheduler, and what is told of it.

use std::rc::Rc;

use serde::Serialize;

use super::options::exact_as_json;
use super::run::sequence_seed;
use super::score::Scorer;
use super::session::Session;
use super::step::Step;
use crate::engine::{BatchRow, Engine, Output};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// One text that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// Its number in the scheduler.
    pub id: u32,
    /// The seed that it is written with.
    #[serde(serialize_with = "exact_as_json")]
    pub seed: u64,
}

/// Something that happened to one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The text's number.
    pub id: u32,
    /// What happened.
    pub news: News,
}

/// What happened to a text.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A step of its generation.
    Step(Step),
    /// More of it is scored: (tokens scored so far, of so many).
    Scored(usize, usize),
    /// It has failed; the others have not.
    Failed(Error),
}

pub(super) enum Work<E: Engine> {
    Text(Box<Session<E>>),
    Score(Box<Scorer<E>>),
}

/// Tokens that are scored in one pass; their logits, [32, 50257], take 6.4 MB.
const SCORE_TOKENS: usize = 32;

/// A text that has been given to the scheduler.
pub(super) struct Job<E: Engine> {
    pub id: u32,
    pub work: Work<E>,
    /// Texts of the same prompt that begin when it is read.
    pub siblings: Vec<Sequence>,
    /// Passes since it got its seat.
    pub n_passes: usize,
    /// In which round a piece of its prompt was last read; 0 for never.
    pub last_read: u64,
    /// Whether it needs no more passes.
    pub is_done: bool,
    /// Of the coming pass: tokens that have to be run before it can write again, how many of these are run, and rows of
    /// other texts.
    pub n_unread: usize,
    pub n_piece: usize,
    pub n_others: usize,
}

impl<E: Engine> Job<E> {
    /// A text that is to be written, and others of the same prompt.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if no generation has begun.
    pub fn of_text(session: Session<E>, mut next_id: impl FnMut() -> u32) -> Result<(Self, Vec<Sequence>)> {
        let Some(options) = session.options() else {
            return Err(Error::InvalidState("a text without a generation".into()));
        };
        let seed = options.seed.unwrap_or_default();
        let sequence = |index| Sequence { id: next_id(), seed: sequence_seed(seed, index) };
        let sequences: Vec<Sequence> = (0..options.num_return_sequences).map(sequence).collect();
        let job = Self::new(sequences[0].id, Work::Text(Box::new(session)), sequences[1..].to_vec());
        Ok((job, sequences))
    }

    /// A text that is to be scored.
    pub fn of_score(scorer: Scorer<E>, id: u32) -> Self {
        Self::new(id, Work::Score(Box::new(scorer)), Vec::new())
    }

    fn new(id: u32, work: Work<E>, siblings: Vec<Sequence>) -> Self {
        let (n_passes, last_read, is_done) = (0, 0, false);
        Self { id, work, siblings, n_passes, last_read, is_done, n_unread: 0, n_piece: 0, n_others: 0 }
    }

    /// Counts the tokens that have to be run before it can write again.
    pub fn look_ahead(&mut self) {
        self.n_unread = match &mut self.work {
            Work::Text(session) => session.n_unread(),
            Work::Score(scorer) => scorer.plan(SCORE_TOKENS),
        };
    }

    /// Whether a pass over several texts can do what it asks for.
    pub fn fits_batch(&self) -> bool {
        match &self.work {
            Work::Text(session) => session.fits_batch(),
            Work::Score(_) => true,
        }
    }

    /// Bytes of its cache.
    pub fn cache_bytes(&self) -> usize {
        match &self.work {
            Work::Text(session) => session.cache_bytes(),
            Work::Score(scorer) => scorer.cache_bytes(),
        }
    }

    /// Takes it to another engine with the same model.
    pub fn move_to(&mut self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        match &mut self.work {
            Work::Text(session) => session.move_to(engine, tokenizer),
            Work::Score(scorer) => scorer.move_to(engine, tokenizer),
        }
    }

    /// Ends its generation early but softly, and those of the texts that would begin with it. → text that was held back
    /// for a character or a stop string
    pub fn interrupt(&mut self) -> String {
        let Work::Text(session) = &mut self.work else { return String::new() };
        self.is_done = true;
        self.siblings.clear();
        session.interrupt()
    }

    /// Decides what its part of the next pass is: at most `max_tokens` of its prompt. n_others: rows of other texts
    pub fn plan(&mut self, max_tokens: usize, n_others: usize) -> Result<()> {
        match &mut self.work {
            Work::Text(session) => session.plan(max_tokens, n_others),
            Work::Score(scorer) => {
                scorer.plan(max_tokens.min(SCORE_TOKENS));
                Ok(())
            }
        }
    }

    /// Takes back what runs of it alone.
    pub fn take_back(&mut self) {
        if let Work::Text(session) = &mut self.work {
            session.take_back();
        }
    }

    /// Its part of the planned pass.
    pub fn row(&mut self) -> Result<BatchRow<'_, E::Cache>> {
        match &mut self.work {
            Work::Text(session) => session.row(),
            Work::Score(scorer) => Ok(scorer.row()),
        }
    }

    /// Takes what a step of its own gave.
    pub fn tell(&mut self, step: Result<Step>, events: &mut Vec<Event>) {
        let event = match step {
            Ok(step) => {
                self.is_done = matches!(step, Step::Token(_, Some(_)));
                Event { id: self.id, news: News::Step(step) }
            }
            Err(error) => self.failed(error),
        };
        events.push(event);
    }

    /// Tells that it is scored, if it is.
    pub fn tell_if_scored(&mut self, events: &mut Vec<Event>) {
        if let Work::Score(scorer) = &self.work
            && scorer.is_done()
        {
            self.is_done = true;
            self.tell_score(events);
        }
    }

    fn tell_score(&self, events: &mut Vec<Event>) {
        if let Work::Score(scorer) = &self.work {
            let (n_done, n_total) = scorer.progress();
            events.push(Event { id: self.id, news: News::Scored(n_done, n_total) });
        }
    }

    /// Ends it, and the texts that would begin with it.
    pub fn failed(&mut self, error: Error) -> Event {
        self.is_done = true;
        self.siblings.clear();
        self.broken(&error);
        Event { id: self.id, news: News::Failed(error) }
    }

    /// Notes that its pass has failed.
    pub fn broken(&mut self, error: &Error) {
        if let Work::Text(session) = &mut self.work {
            session.fail(error);
        }
    }

    /// Takes what its part of a pass has given. → the texts of the same prompt that begin with it
    pub fn take(&mut self, output: Output, events: &mut Vec<Event>) -> Vec<Job<E>> {
        let mut born = Vec::new();
        let first = match &mut self.work {
            Work::Score(scorer) => {
                scorer.take(&output);
                self.is_done = scorer.is_done();
                self.tell_score(events);
                return born;
            }
            Work::Text(session) => {
                if !output.logits.is_empty() {
                    for Sequence { id, seed } in self.siblings.drain(..) {
                        let fork = Box::new(session.fork(seed));
                        born.push(Job::new(id, Work::Text(fork), Vec::new()));
                    }
                }
                // each of the texts draws its own first token from the same logits
                for job in &mut born {
                    if let Work::Text(fork) = &mut job.work {
                        let first = fork.take(output.clone());
                        job.tell(first, events);
                    }
                }
                session.take(output)
            }
        };
        self.tell(first, events);
        self.drain(events);
        born.iter_mut().for_each(|job| job.drain(events));
        born
    }

    /// Writes what is known without a pass.
    pub fn drain(&mut self, events: &mut Vec<Event>) {
        while let Work::Text(session) = &mut self.work
            && let Some(step) = session.take_known()
        {
            self.tell(step, events);
        }
    }
}
