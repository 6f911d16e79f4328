//! Many texts at once: they join and leave between any two passes, and share each pass where that pays.
//!
//! There are so many seats; who has one takes part in the passes. Seats are given in the order of arrival. While others
//! wait, a text gives its seat up after a number of passes and waits behind them, with its cache, so nobody waits for
//! ever. Prompts are read in small pieces while other texts write, taking turns.
//!
//! What a text becomes does not depend on who else is there: a pass over several texts gives each the bits that it gets
//! alone, and where the way in which a prompt is cut would show in them, every prompt is cut in the same way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::job::{Event, Job, Sequence, Work};
use super::round::Round;
use super::score::{Score, Scorer};
use super::session::{Guesses, Session};
use crate::engine::Engine;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Passes after which a seat goes to whoever waits. A change costs nothing on the CPU, and on a GPU the pass that ran
/// ahead.
const TURN: usize = 16;

/// Most texts in a pass where nobody says how many, on an engine on which a pass over several pays.
const N_SEATS: usize = 8;

/// Runs many texts on one engine. A future of [`Scheduler::step`] has to be run to its end.
pub struct Scheduler<E: Engine> {
    engine: RefCell<Rc<E>>,
    n_seats: usize,
    next_id: Cell<u32>,
    n_rounds: Cell<u64>,
    seated: RefCell<Vec<Job<E>>>,
    waiting: RefCell<VecDeque<Job<E>>>,
    done: RefCell<Vec<Job<E>>>,
    /// The texts in the pass that is running.
    running: RefCell<Vec<u32>>,
    guesses: Cell<Guesses>,
}

impl<E: Engine> Scheduler<E> {
    /// A scheduler with so many seats, at least one; `None` for as many as this engine is best with.
    pub fn new(engine: Rc<E>, n_seats: Option<usize>) -> Self {
        let n_seats = n_seats.unwrap_or(if engine.batch_pays() { N_SEATS } else { 1 }).max(1);
        Self {
            engine: RefCell::new(engine),
            n_seats,
            next_id: Cell::new(1),
            n_rounds: Cell::new(0),
            seated: RefCell::default(),
            waiting: RefCell::default(),
            done: RefCell::default(),
            running: RefCell::default(),
            guesses: Cell::default(),
        }
    }

    /// How many texts share a pass at most.
    pub fn n_seats(&self) -> usize {
        self.n_seats
    }

    /// Takes a text whose generation has begun. → its number and seed, and those of the other texts of its prompt, if
    /// its options ask for several: they appear when the prompt is read
    ///
    /// # Errors
    /// [`crate::Error::InvalidState`] if no generation has begun.
    pub fn add(&self, session: Session<E>) -> Result<Vec<Sequence>> {
        let (job, sequences) = Job::of_text(session, || self.next_id())?;
        self.waiting.borrow_mut().push_back(job);
        Ok(sequences)
    }

    /// Takes a text that is to be scored. → its number
    pub fn add_score(&self, scorer: Scorer<E>) -> u32 {
        let id = self.next_id();
        self.waiting.borrow_mut().push_back(Job::of_score(scorer, id));
        id
    }

    /// Gives a text back, with its generation ended; `None` if there is no such text, or if it was to be scored.
    pub fn leave(&self, id: u32) -> Option<Session<E>> {
        match self.remove(id)?.work {
            Work::Text(mut session) => {
                self.count(session.take_guesses());
                session.end();
                Some(*session)
            }
            Work::Score(_) => None,
        }
    }

    /// Gives a score back; `None` if there is none of this number, or it is not complete.
    pub fn score(&self, id: u32) -> Option<Score> {
        match self.remove(id)?.work {
            Work::Score(scorer) if scorer.is_done() => Some(scorer.finish()),
            _ => None,
        }
    }

    /// Ends a generation early but softly. → text that was held back for a character or a stop string
    pub fn interrupt(&self, id: u32) -> String {
        let (mut seated, mut waiting) = (self.seated.borrow_mut(), self.waiting.borrow_mut());
        let job = seated.iter_mut().chain(waiting.iter_mut()).find(|job| job.id == id);
        job.map_or(String::new(), Job::interrupt)
    }

    /// Takes every text to another engine with the same model.
    pub fn move_to(&self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        let (mut seated, mut waiting, mut done) =
            (self.seated.borrow_mut(), self.waiting.borrow_mut(), self.done.borrow_mut());
        for job in seated.iter_mut().chain(waiting.iter_mut()).chain(done.iter_mut()) {
            job.move_to(engine.clone(), tokenizer.clone());
        }
        *self.engine.borrow_mut() = engine;
    }

    /// The texts in the pass that is running; none between passes.
    pub fn running(&self) -> Vec<u32> {
        self.running.borrow().clone()
    }

    /// How many texts have a seat, and how many wait for one. Texts that wait for a prompt of theirs to be read count
    /// as waiting.
    pub fn n_texts(&self) -> (usize, usize) {
        let (seated, waiting) = (self.seated.borrow(), self.waiting.borrow());
        let n_unborn: usize = seated.iter().chain(waiting.iter()).map(|job| job.siblings.len()).sum();
        (seated.len(), waiting.len() + n_unborn)
    }

    /// Bytes of the caches of all texts in it.
    pub fn cache_bytes(&self) -> usize {
        let (seated, waiting, done) = (self.seated.borrow(), self.waiting.borrow(), self.done.borrow());
        let jobs = seated.iter().chain(waiting.iter()).chain(done.iter());
        jobs.map(Job::cache_bytes).sum()
    }

    /// What has become of guesses so far.
    pub fn guesses(&self) -> Guesses {
        self.guesses.get()
    }

    /// Does the next piece of work: a pass, or one for each seat where a pass over several texts does not pay. Each
    /// text's prompt is read at most `max_tokens` at a time. → what happened; nothing where nobody is left
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] and [`crate::Error::Interrupted`], if nothing else happened: every text goes on where
    /// it was (after [`Scheduler::move_to`], if the device is lost).
    pub async fn step(&self, max_tokens: usize) -> Result<Vec<Event>> {
        let mut jobs = self.take_seats();
        let mut round = Round {
            engine: self.engine.borrow().clone(),
            number: self.n_rounds.get(),
            max_tokens,
            running: &self.running,
            events: Vec::new(),
            born: Vec::new(),
            broken: None,
        };
        round.run(&mut jobs).await;
        self.put_back(jobs);
        self.waiting.borrow_mut().extend(round.born);
        self.settle();
        match round.broken {
            Some(error) if round.events.is_empty() => Err(error),
            _ => Ok(round.events), // a device that is lost says so again
        }
    }

    fn next_id(&self) -> u32 {
        self.next_id.replace(self.next_id.get().wrapping_add(1))
    }

    fn count(&self, new: Guesses) {
        let Guesses { n_guessed, n_right } = self.guesses.get();
        self.guesses.set(Guesses { n_guessed: n_guessed + new.n_guessed, n_right: n_right + new.n_right });
    }

    fn remove(&self, id: u32) -> Option<Job<E>> {
        for jobs in [&self.seated, &self.done] {
            let mut jobs = jobs.borrow_mut();
            if let Some(i) = jobs.iter().position(|job| job.id == id) {
                return Some(jobs.remove(i));
            }
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(i) = waiting.iter().position(|job| job.id == id) {
            return waiting.remove(i);
        }
        // a text that has not begun is given up
        let mut seated = self.seated.borrow_mut();
        for job in seated.iter_mut().chain(waiting.iter_mut()) {
            job.siblings.retain(|sibling| sibling.id != id);
        }
        None
    }

    /// Takes the texts out that have a seat now: while others wait, those who had one for long go behind them.
    fn take_seats(&self) -> Vec<Job<E>> {
        self.settle();
        let (mut seated, mut waiting) = (self.seated.borrow_mut(), self.waiting.borrow_mut());
        let mut n_leaving = waiting.len().saturating_sub(self.n_seats - seated.len());
        let mut kept = Vec::new();
        for mut job in seated.drain(..) {
            if n_leaving > 0 && job.n_passes >= TURN {
                n_leaving -= 1;
                job.n_passes = 0;
                waiting.push_back(job);
            } else {
                kept.push(job);
            }
        }
        while kept.len() < self.n_seats
            && let Some(job) = waiting.pop_front()
        {
            kept.push(job);
        }
        self.n_rounds.set(self.n_rounds.get() + 1);
        kept
    }

    fn put_back(&self, jobs: Vec<Job<E>>) {
        for mut job in jobs {
            job.n_passes += 1;
            if let Work::Text(session) = &mut job.work {
                self.count(session.take_guesses());
            }
            self.seated.borrow_mut().push(job);
        }
    }

    /// Moves the texts that need no more passes to `done`.
    fn settle(&self) {
        let (mut seated, mut waiting, mut done) =
            (self.seated.borrow_mut(), self.waiting.borrow_mut(), self.done.borrow_mut());
        done.extend(seated.extract_if(.., |job| job.is_done));
        for _ in 0..waiting.len() {
            let Some(job) = waiting.pop_front() else { break };
            if job.is_done {
                done.push(job);
            } else {
                waiting.push_back(job);
            }
        }
    }
}
