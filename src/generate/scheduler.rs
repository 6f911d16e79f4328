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

use super::run::sequence_seed;
use super::score::{Score, Scorer};
use super::session::{Guesses, Session};
use super::step::Step;
use crate::engine::{Engine, Output, Rows};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Passes after which a seat goes to whoever waits. A change costs nothing on the CPU, and on a GPU the pass that ran
/// ahead.
const TURN: usize = 16;
/// Tokens of prompts in a pass in which other texts write.
const PIECE_BESIDE: usize = 16;

/// One text that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its number in the scheduler.
    pub id: u32,
    /// The seed that it is written with.
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

enum Work<E: Engine> {
    Text(Box<Session<E>>),
    Score(Box<Scorer<E>>),
}

/// A text that has been given to the scheduler.
struct Job<E: Engine> {
    id: u32,
    work: Work<E>,
    /// Texts of the same prompt that begin when it is read.
    siblings: Vec<Sequence>,
    /// Passes since it got its seat.
    n_passes: usize,
    /// In which round a piece of its prompt was last read; 0 for never.
    last_read: u64,
    /// Whether it needs no more passes.
    is_done: bool,
}

impl<E: Engine> Job<E> {
    fn new(id: u32, work: Work<E>, siblings: Vec<Sequence>) -> Self {
        Self { id, work, siblings, n_passes: 0, last_read: 0, is_done: false }
    }

    /// Tokens that have to be run before it can write again.
    fn n_unread(&mut self) -> usize {
        match &mut self.work {
            Work::Text(session) => session.n_unread(),
            Work::Score(scorer) => scorer.plan(usize::MAX),
        }
    }

    /// Whether a pass over several texts can do what it asks for.
    fn fits_batch(&self) -> bool {
        match &self.work {
            Work::Text(session) => session.fits_batch(),
            Work::Score(_) => true,
        }
    }

    fn plan(&mut self, max_tokens: usize, n_others: usize) -> Result<()> {
        match &mut self.work {
            Work::Text(session) => session.plan(max_tokens, n_others),
            Work::Score(scorer) => {
                scorer.plan(max_tokens);
                Ok(())
            }
        }
    }

    fn tell(&mut self, step: Result<Step>, events: &mut Vec<Event>) {
        let news = match step {
            Ok(step) => {
                self.is_done = matches!(step, Step::Token(_, Some(_)));
                News::Step(step)
            }
            Err(error) => self.failed(error),
        };
        events.push(Event { id: self.id, news });
    }

    fn tell_if_scored(&mut self, events: &mut Vec<Event>) {
        if let Work::Score(scorer) = &self.work
            && scorer.is_done()
        {
            let (n_done, n_total) = scorer.progress();
            events.push(Event { id: self.id, news: News::Scored(n_done, n_total) });
            self.is_done = true;
        }
    }

    fn failed(&mut self, error: Error) -> News {
        self.is_done = true;
        self.siblings.clear();
        if let Work::Text(session) = &mut self.work {
            session.fail(&error);
        }
        News::Failed(error)
    }

    /// Takes what its part of a pass has given. → the texts of the same prompt that begin with it
    fn take(&mut self, output: Output, events: &mut Vec<Event>) -> Vec<Job<E>> {
        let mut born = Vec::new();
        let first = match &mut self.work {
            Work::Score(scorer) => {
                scorer.take(&output);
                let (n_done, n_total) = scorer.progress();
                events.push(Event { id: self.id, news: News::Scored(n_done, n_total) });
                self.is_done = scorer.is_done();
                return born;
            }
            Work::Text(session) => {
                if !output.logits.is_empty() {
                    for Sequence { id, seed } in self.siblings.drain(..) {
                        let fork = Box::new(session.fork(seed));
                        born.push(Job::new(id, Work::Text(fork), Vec::new()));
                    }
                }
                session.take(output.clone())
            }
        };
        self.tell(first, events);
        self.drain(events);
        for job in &mut born {
            let Work::Text(session) = &mut job.work else { continue };
            let first = session.take(output.clone());
            job.tell(first, events);
        }
        born
    }

    /// Writes what is known without a pass.
    fn drain(&mut self, events: &mut Vec<Event>) {
        while let Work::Text(session) = &mut self.work
            && let Some(step) = session.take_known()
        {
            self.tell(step, events);
        }
    }
}

/// What one round of passes has done.
struct Round<E: Engine> {
    events: Vec<Event>,
    born: Vec<Job<E>>,
    /// What ended the round early: nobody's fault, and everybody goes on from where they were.
    broken: Option<Error>,
}

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
        let n_seats = n_seats.unwrap_or(if engine.batch_pays() { 8 } else { 1 }).max(1);
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
    /// [`Error::InvalidState`] if no generation has begun.
    pub fn add(&self, session: Session<E>) -> Result<Vec<Sequence>> {
        let Some(options) = session.options() else {
            return Err(Error::InvalidState("a text without a generation".into()));
        };
        let seed = options.seed.unwrap_or_default();
        let sequence = |index| Sequence { id: self.next_id(), seed: sequence_seed(seed, index) };
        let sequences: Vec<Sequence> = (0..options.num_return_sequences).map(sequence).collect();
        let job = Job::new(sequences[0].id, Work::Text(Box::new(session)), sequences[1..].to_vec());
        self.waiting.borrow_mut().push_back(job);
        Ok(sequences)
    }

    /// Takes a text that is to be scored. → its number
    pub fn add_score(&self, scorer: Scorer<E>) -> u32 {
        let id = self.next_id();
        self.waiting.borrow_mut().push_back(Job::new(id, Work::Score(Box::new(scorer)), Vec::new()));
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
        let mut held = String::new();
        let end = |job: &mut Job<E>| {
            if let (true, Work::Text(session)) = (job.id == id, &mut job.work) {
                held.push_str(&session.interrupt());
                job.is_done = true;
            }
        };
        let (mut seated, mut waiting) = (self.seated.borrow_mut(), self.waiting.borrow_mut());
        seated.iter_mut().chain(waiting.iter_mut()).for_each(end);
        held
    }

    /// Takes every text to another engine with the same model.
    pub fn move_to(&self, engine: Rc<E>, tokenizer: Rc<Tokenizer>) {
        let (mut seated, mut waiting, mut done) =
            (self.seated.borrow_mut(), self.waiting.borrow_mut(), self.done.borrow_mut());
        for job in seated.iter_mut().chain(waiting.iter_mut()).chain(done.iter_mut()) {
            match &mut job.work {
                Work::Text(session) => session.move_to(engine.clone(), tokenizer.clone()),
                Work::Score(scorer) => scorer.move_to(engine.clone(), tokenizer.clone()),
            }
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
        jobs.map(|job| match &job.work {
            Work::Text(session) => session.cache_bytes(),
            Work::Score(scorer) => scorer.cache_bytes(),
        })
        .sum()
    }

    /// What has become of guesses so far.
    pub fn guesses(&self) -> Guesses {
        self.guesses.get()
    }

    /// Does the next piece of work: a pass, or one for each seat where a pass over several texts does not pay. Each
    /// text's prompt is read at most `max_tokens` at a time. → what happened; nothing where nobody is left
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Interrupted`], if nothing else happened: every text goes on where it was (after
    /// [`Scheduler::move_to`], if the device is lost).
    pub async fn step(&self, max_tokens: usize) -> Result<Vec<Event>> {
        let mut jobs = self.take_seats();
        let engine = self.engine.borrow().clone();
        let mut round = Round { events: Vec::new(), born: Vec::new(), broken: None };
        for job in &mut jobs {
            job.tell_if_scored(&mut round.events); // a text of one token has nothing to be computed
        }
        let left = jobs.iter_mut().filter(|job| !job.is_done);
        match engine.batch_pays() {
            true => self.run_together(&engine, left.collect(), max_tokens, &mut round).await,
            false => {
                for job in left {
                    self.run_alone(&engine, job, max_tokens, &mut round).await;
                    if round.broken.is_some() {
                        break;
                    }
                }
            }
        }
        self.running.borrow_mut().clear();
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

    /// One pass for all that have something to run.
    async fn run_together(&self, engine: &Rc<E>, mut jobs: Vec<&mut Job<E>>, max_tokens: usize, round: &mut Round<E>) {
        let is_writing: Vec<bool> = jobs.iter_mut().map(|job| job.n_unread() <= 1).collect();
        let fits: Vec<bool> = jobs.iter().map(|job| job.fits_batch()).collect();
        let mut chosen: Vec<usize> = (0..jobs.len()).filter(|&i| is_writing[i] && fits[i]).collect();
        let n_writing = is_writing.iter().filter(|&&is| is).count();
        let is_shared = n_writing > 0 && engine.is_exact();
        let piece = if is_shared { max_tokens.min(PIECE_BESIDE) } else { max_tokens };

        // prompts: whoever was served last waits longest
        let mut readers: Vec<usize> = (0..jobs.len()).filter(|&i| !is_writing[i]).collect();
        readers.sort_by_key(|&i| jobs[i].last_read);
        let mut n_left = piece;
        let mut alone: Vec<usize> = (0..jobs.len()).filter(|&i| is_writing[i] && !fits[i]).collect();
        for i in readers {
            let n_piece = jobs[i].n_unread().min(if engine.is_exact() { n_left } else { max_tokens });
            if n_piece == 0 || n_piece > n_left {
                continue;
            }
            n_left -= n_piece;
            jobs[i].last_read = self.n_rounds.get();
            match fits[i] {
                true => chosen.push(i),
                false => alone.push(i),
            }
        }
        let n_read = piece - n_left;
        if let ([only], []) | ([], [only]) = (&chosen[..], &alone[..]) {
            return self.run_alone(engine, jobs[*only], max_tokens, round).await;
        }
        for i in alone {
            self.run_alone(engine, jobs[i], piece, round).await;
            if round.broken.is_some() {
                return;
            }
        }
        let mut batch = Vec::new();
        let n_chosen = chosen.len();
        for (i, job) in jobs.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)) {
            let n_tokens = if engine.is_exact() { piece } else { max_tokens };
            let n_others = if is_writing[i] { n_writing - 1 + n_read } else { 0 };
            match job.plan(n_tokens, n_others) {
                Ok(()) => batch.push(job),
                Err(error) => {
                    let news = job.failed(error);
                    round.events.push(Event { id: job.id, news });
                }
            }
        }
        debug_assert!(batch.len() <= n_chosen);
        self.run_batch(engine, batch, round).await;
    }

    /// One pass over texts whose parts in it are planned.
    async fn run_batch(&self, engine: &Rc<E>, mut batch: Vec<&mut Job<E>>, round: &mut Round<E>) {
        *self.running.borrow_mut() = batch.iter().map(|job| job.id).collect();
        let mut rows = Vec::with_capacity(batch.len());
        for job in &mut batch {
            match &mut job.work {
                Work::Text(session) => rows.extend(session.row().ok()),
                Work::Score(scorer) => rows.push(scorer.row()),
            }
        }
        let outputs = engine.forward_batch(&mut rows).await;
        drop(rows);
        match outputs {
            Ok(outputs) => {
                for (job, output) in batch.into_iter().zip(outputs) {
                    round.born.extend(job.take(output, &mut round.events));
                }
            }
            Err(error @ (Error::DeviceLost(_) | Error::Interrupted)) => {
                for job in batch {
                    if let Work::Text(session) = &mut job.work {
                        session.fail(&error);
                    }
                }
                round.broken = Some(error);
            }
            // one of them may be at fault, or all of them together too many
            Err(_) => {
                for job in batch {
                    self.run_planned(engine, job, round).await;
                    if round.broken.is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// A pass for one text: where nobody begins with it, the session's own, which may run ahead of the host.
    async fn run_alone(&self, engine: &Rc<E>, job: &mut Job<E>, max_tokens: usize, round: &mut Round<E>) {
        *self.running.borrow_mut() = vec![job.id];
        if let (Work::Text(session), []) = (&mut job.work, &job.siblings[..]) {
            match session.step(max_tokens).await {
                Err(error @ (Error::DeviceLost(_) | Error::Interrupted)) => round.broken = Some(error),
                step => {
                    job.tell(step, &mut round.events);
                    job.drain(&mut round.events);
                }
            }
            return;
        }
        match job.plan(max_tokens, 0) {
            Ok(()) => self.run_planned(engine, job, round).await,
            Err(error) => {
                let news = job.failed(error);
                round.events.push(Event { id: job.id, news });
            }
        }
    }

    async fn run_planned(&self, engine: &Rc<E>, job: &mut Job<E>, round: &mut Round<E>) {
        *self.running.borrow_mut() = vec![job.id];
        let (row, with_attentions) = match &mut job.work {
            Work::Text(session) => {
                let with_attentions = !session.fits_batch();
                (session.row(), with_attentions)
            }
            Work::Score(scorer) => (Ok(scorer.row()), false),
        };
        let outcome = match row {
            Ok(row) => {
                let with_attentions = with_attentions && row.rows != Rows::None;
                engine.forward(row.cache, row.ids, row.rows, with_attentions).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(output) => round.born.extend(job.take(output, &mut round.events)),
            Err(error @ (Error::DeviceLost(_) | Error::Interrupted)) => {
                if let Work::Text(session) = &mut job.work {
                    session.fail(&error);
                }
                round.broken = Some(error);
            }
            Err(error) => {
                let news = job.failed(error);
                round.events.push(Event { id: job.id, news });
            }
        }
    }
}
