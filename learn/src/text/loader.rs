//! Rows for each step, cut, shuffled and laid out by a thread of its own while the steps before are computed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::token_file::TokenFile;
use crate::fused::{Rows, mix};
use crate::{Error, Result};

/// Which tokens each row has. It follows from the seed and the row's number alone, so that a run can go on anywhere.
///
/// Each epoch cuts the tokens at other places and shuffles the pieces, so that every token is learnt from once.
#[derive(Clone, Debug)]
pub struct RowOrder {
    seed: u64,
    row_len: usize,
    n_in_epoch: usize,
    epoch: Option<u64>,
    offset: usize,
    pieces: Vec<u32>,
}

impl RowOrder {
    /// Rows of `row_len` tokens, each with one more to be predicted, from the tokens in `range`.
    ///
    /// # Errors
    /// [`Error::Option`] where there are not two rows.
    pub fn new(n_tokens: usize, row_len: usize, seed: u64) -> Result<Self> {
        // the offset takes at most row_len - 1 tokens, and the last row one beyond its end
        let n_in_epoch = n_tokens.saturating_sub(row_len) / row_len.max(1);
        if n_in_epoch < 2 {
            return Err(Error::option("row-tokens", "at most a third of the tokens in the text", row_len));
        }
        Ok(Self { seed, row_len, n_in_epoch, epoch: None, offset: 0, pieces: Vec::new() })
    }

    /// Rows of an epoch.
    pub fn n_in_epoch(&self) -> usize {
        self.n_in_epoch
    }

    /// The tokens of row `row` of the whole run, with the one after its last.
    pub fn row(&mut self, row: u64) -> Range<usize> {
        let epoch = row / self.n_in_epoch as u64;
        if self.epoch != Some(epoch) {
            let key = mix(self.seed ^ mix(epoch));
            self.epoch = Some(epoch);
            self.offset = (key % self.row_len as u64) as usize;
            self.pieces = (0..self.n_in_epoch as u32).collect();
            for i in (1..self.pieces.len()).rev() {
                let other = mix(key.wrapping_add(i as u64)) % (i as u64 + 1); // Fisher-Yates
                self.pieces.swap(i, other as usize);
            }
        }
        let piece = self.pieces[(row % self.n_in_epoch as u64) as usize] as usize;
        let begin = self.offset + piece * self.row_len;
        begin..begin + self.row_len + 1
    }
}

/// Rows with their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsOf {
    /// [R, T]
    pub ids: Vec<u32>,
    /// [R, T], each the token that follows.
    pub labels: Vec<i32>,
    /// T
    pub n_tokens: usize,
}

impl RowsOf {
    /// No rows yet, of so many tokens each.
    pub fn new(n_tokens: usize) -> Self {
        Self { n_tokens, ..Self::default() }
    }

    /// Adds a row: `range` has one token more than the row.
    pub fn push(&mut self, file: &TokenFile, range: Range<usize>) {
        let n = range.len() - 1;
        self.ids.extend(file.ids(range.start, n));
        self.labels.extend(file.ids(range.start + 1, n).map(|id| id as i32));
    }

    /// Rows `range` of them.
    pub fn rows(&self, range: Range<usize>) -> Rows<'_> {
        let tokens = range.start * self.n_tokens..range.end * self.n_tokens;
        Rows { ids: &self.ids[tokens.clone()], labels: &self.labels[tokens], n_tokens: self.n_tokens }
    }
}

/// Cuts rows out of the tokens, step after step.
#[derive(Debug)]
struct Cutter {
    file: Arc<TokenFile>,
    order: RowOrder,
    n_rows: usize,
    step: u64,
}

impl Cutter {
    fn next_rows(&mut self) -> RowsOf {
        let mut rows = RowsOf::new(self.order.row_len);
        for row in 0..self.n_rows as u64 {
            rows.push(&self.file, self.order.row(self.step * self.n_rows as u64 + row));
        }
        self.step += 1;
        rows
    }
}

/// What gives each step its rows.
#[derive(Debug)]
pub enum Loader {
    /// Cuts them when they are asked for.
    Here(Cut),
    /// Takes them from a thread that cuts them beforehand.
    Beside(Beside),
}

/// Rows that are cut when they are asked for.
#[derive(Debug)]
pub struct Cut(Cutter);

/// The thread that prepares rows.
#[derive(Debug)]
pub struct Beside {
    receiver: Option<Receiver<RowsOf>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Prepares `n_rows` rows for each step from `step` on; a thread does so at most `n_ahead` steps before they are needed,
    /// or nobody where that is 0.
    pub fn start(file: Arc<TokenFile>, order: RowOrder, n_rows: usize, step: u64, n_ahead: usize) -> Self {
        let mut cutter = Cutter { file, order, n_rows, step };
        if n_ahead == 0 {
            return Self::Here(Cut(cutter));
        }
        let (sender, receiver) = sync_channel(n_ahead);
        // until nobody wants any more
        let thread = std::thread::spawn(move || while sender.send(cutter.next_rows()).is_ok() {});
        Self::Beside(Beside { receiver: Some(receiver), thread: Some(thread) })
    }

    /// The next step's rows.
    ///
    /// # Panics
    /// If the thread has panicked.
    pub fn next_rows(&mut self) -> RowsOf {
        match self {
            Self::Here(Cut(cutter)) => cutter.next_rows(),
            Self::Beside(beside) => beside.next_rows(),
        }
    }
}

impl Beside {
    fn next_rows(&mut self) -> RowsOf {
        match self.receiver.as_ref().map(Receiver::recv) {
            Some(Ok(rows)) => rows,
            _ => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => panic!("the loader ended before the run did"),
            },
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.receiver = None; // lets the thread end
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic in it was told where its rows were asked for
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_token_once_and_begins_anywhere() {
        let mut order = RowOrder::new(1003, 10, 5).unwrap();
        let n = order.n_in_epoch() as u64;
        for epoch in 0..3 {
            let mut rows: Vec<_> = (epoch * n..(epoch + 1) * n).map(|row| order.row(row)).collect();
            assert!(rows.iter().all(|row| row.len() == 11 && row.end <= 1003));
            assert_ne!(rows[0].start + 10, rows[1].start, "not shuffled");
            rows.sort_by_key(|row| row.start);
            assert!(rows.windows(2).all(|pair| pair[0].start + 10 == pair[1].start));
        }
        let mut other = RowOrder::new(1003, 10, 5).unwrap();
        assert_eq!(other.row(2 * n + 3), order.row(2 * n + 3));
        assert_ne!(RowOrder::new(1003, 10, 6).unwrap().row(0), other.row(0));
        assert!(RowOrder::new(25, 10, 5).is_err());
    }
}
