//! The passes of one round: who takes part in which.

use std::cell::RefCell;
use std::rc::Rc;

use super::job::{Event, Job, Work};
use crate::engine::{Engine, Output, Rows};
use crate::error::{Error, Result};

/// Tokens of prompts in a pass in which other texts write.
const PIECE_BESIDE: usize = 16;

/// One round of passes, and what it has done.
pub(super) struct Round<'a, E: Engine> {
    pub engine: Rc<E>,
    /// Its number, from 1 on.
    pub number: u64,
    /// Tokens of a prompt that are read at a time.
    pub max_tokens: usize,
    /// The texts in the pass that is running.
    pub running: &'a RefCell<Vec<u32>>,
    pub events: Vec<Event>,
    /// Texts whose prompt has been read with another's.
    pub born: Vec<Job<E>>,
    /// What ended the round early: nobody's fault, and everybody goes on from where they were.
    pub broken: Option<Error>,
}

impl<E: Engine> Round<'_, E> {
    /// Runs every text: in one pass where that pays, else one after the other.
    pub async fn run(&mut self, jobs: &mut [Job<E>]) {
        for job in &mut *jobs {
            job.tell_if_scored(&mut self.events); // a text of one token has nothing to be computed
            if !job.is_done {
                job.look_ahead();
            }
        }
        let left: Vec<_> = jobs.iter_mut().filter(|job| !job.is_done).collect();
        match self.engine.batch_pays() {
            true => self.run_together(left).await,
            false => self.run_each(left, self.max_tokens).await,
        }
        self.running.borrow_mut().clear();
    }

    async fn run_each(&mut self, jobs: Vec<&mut Job<E>>, max_tokens: usize) {
        for job in jobs {
            self.run_alone(job, max_tokens).await;
            if self.broken.is_some() {
                return;
            }
        }
    }

    /// One pass for all that have something to run, and passes of their own for those who cannot share one.
    async fn run_together(&mut self, jobs: Vec<&mut Job<E>>) {
        let is_exact = self.engine.is_exact();
        let (mut writers, mut readers): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.n_unread <= 1);
        // where the way in which a prompt is cut shows in its bits, it is always cut in the same way
        let piece = if is_exact && !writers.is_empty() { PIECE_BESIDE.min(self.max_tokens) } else { self.max_tokens };
        readers.sort_by_key(|job| job.last_read); // whoever was served last waits longest
        let mut n_left = piece;
        readers.retain_mut(|job| {
            let n_piece = job.n_unread.min(if is_exact { n_left } else { self.max_tokens });
            let has_place = n_piece > 0 && n_piece <= n_left;
            if has_place {
                n_left -= n_piece;
                (job.n_piece, job.last_read) = (n_piece, self.number);
            }
            has_place
        });
        let n_rows = writers.len() + piece - n_left;
        for job in &mut writers {
            (job.n_piece, job.n_others) = (1, n_rows - 1);
        }
        let chosen = writers.into_iter().chain(readers);
        let (batch, alone): (Vec<_>, Vec<_>) = chosen.partition(|job| job.fits_batch());
        if batch.len() == 1 {
            self.run_each(batch.into_iter().chain(alone).collect(), piece).await;
            return;
        }
        self.run_each(alone, piece).await;
        if self.broken.is_none() {
            self.run_batch(batch).await;
        }
    }

    async fn run_batch(&mut self, mut batch: Vec<&mut Job<E>>) {
        batch.iter_mut().for_each(|job| job.take_back());
        batch.retain_mut(|job| match job.plan(job.n_piece, job.n_others) {
            Ok(()) => true,
            Err(error) => {
                let event = job.failed(error);
                self.events.push(event);
                false
            }
        });
        *self.running.borrow_mut() = batch.iter().map(|job| job.id).collect();
        let outcome = {
            let rows: Result<Vec<_>> = batch.iter_mut().map(|job| job.row()).collect();
            match rows {
                Ok(mut rows) => self.engine.forward_batch(&mut rows).await,
                Err(error) => Err(error),
            }
        };
        match outcome {
            Ok(outputs) => {
                for (job, output) in batch.into_iter().zip(outputs) {
                    let born = job.take(output, &mut self.events);
                    self.born.extend(born);
                }
            }
            Err(error) if is_nobodys_fault(&error) => {
                batch.iter_mut().for_each(|job| job.broken(&error));
                self.broken = Some(error);
            }
            // one of them may be at fault, or all of them together too many
            Err(_) => {
                for job in batch {
                    self.run_planned(job).await;
                    if self.broken.is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// A pass for one text: where nobody begins with it, the session's own, which may run ahead of the host.
    async fn run_alone(&mut self, job: &mut Job<E>, max_tokens: usize) {
        *self.running.borrow_mut() = vec![job.id];
        if let (Work::Text(session), []) = (&mut job.work, &job.siblings[..]) {
            match session.step(max_tokens).await {
                Err(error) if is_nobodys_fault(&error) => self.broken = Some(error),
                step => {
                    job.tell(step, &mut self.events);
                    job.drain(&mut self.events);
                }
            }
            return;
        }
        match job.plan(max_tokens, 0) {
            Ok(()) => self.run_planned(job).await,
            Err(error) => {
                let event = job.failed(error);
                self.events.push(event);
            }
        }
    }

    async fn run_planned(&mut self, job: &mut Job<E>) {
        *self.running.borrow_mut() = vec![job.id];
        match forward(&*self.engine, job).await {
            Ok(output) => {
                let born = job.take(output, &mut self.events);
                self.born.extend(born);
            }
            Err(error) if is_nobodys_fault(&error) => {
                job.broken(&error);
                self.broken = Some(error);
            }
            Err(error) => {
                let event = job.failed(error);
                self.events.push(event);
            }
        }
    }
}

/// The planned pass of one text.
async fn forward<E: Engine>(engine: &E, job: &mut Job<E>) -> Result<Output> {
    let with_attentions = !job.fits_batch();
    let row = job.row()?;
    let with_attentions = with_attentions && row.rows != Rows::None;
    engine.forward(row.cache, row.ids, row.rows, with_attentions).await
}

/// Whether the texts can go on where they were: on another device if theirs is lost.
fn is_nobodys_fault(error: &Error) -> bool {
    matches!(error, Error::DeviceLost(_) | Error::Interrupted)
}
