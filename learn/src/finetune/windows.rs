//! A text as rows of one length: those that are learnt from, in a new order in each epoch, and those that are kept back.

use std::ops::Range;

use crate::fused::{NO_LABEL, mix};
use crate::{Error, Result};

/// Most rows of the part that is kept back that are scored at once.
const MAX_HELD_OUT: usize = 32;

/// The rows of some texts.
#[derive(Clone, Debug)]
pub struct Windows {
    ids: Vec<u32>,
    /// Where each text begins and ends.
    texts: Vec<Range<usize>>,
    /// Where the kept-back part of each text begins.
    learnt: Vec<usize>,
    /// T
    n_tokens: usize,
}

/// Rows of one length with their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowBuffer {
    /// [R, T]
    pub ids: Vec<u32>,
    /// [R, T]
    pub labels: Vec<i32>,
}

impl Windows {
    /// Cuts texts into rows of at most `max_length` tokens, and keeps the last `eval_fraction` of each text back.
    ///
    /// # Errors
    /// [`Error::Option`] for a fraction that is none, or for texts in which nothing follows anything.
    pub fn new(texts: &[Vec<u32>], max_length: usize, eval_fraction: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&eval_fraction) {
            return Err(Error::option("eval_fraction", "a number from 0 to below 1", eval_fraction));
        }
        let texts: Vec<&Vec<u32>> = texts.iter().filter(|text| text.len() >= 2).collect();
        let longest = texts.iter().map(|text| text.len() - 1).max().unwrap_or(0);
        if longest == 0 || max_length == 0 {
            return Err(Error::option("text", "at least two tokens", longest));
        }
        let (mut ids, mut ranges, mut learnt) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            let begin = ids.len();
            ids.extend_from_slice(text);
            // a kept-back part of fewer tokens would say nothing
            let n_kept = (text.len() as f64 * eval_fraction) as usize;
            let n_kept = if n_kept < 8 { 0 } else { n_kept };
            ranges.push(begin..ids.len());
            learnt.push(ids.len() - n_kept);
        }
        Ok(Self { ids, texts: ranges, learnt, n_tokens: max_length.min(longest) })
    }

    /// T
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// How many rows an epoch has.
    pub fn n_rows(&self) -> usize {
        let n = |(text, learnt): (&Range<usize>, &usize)| (learnt - text.start - 1).div_ceil(self.n_tokens);
        self.texts.iter().zip(&self.learnt).map(n).sum()
    }

    /// Whether a part is kept back.
    pub fn has_held_out(&self) -> bool {
        self.texts.iter().zip(&self.learnt).any(|(text, &learnt)| learnt < text.end)
    }

    /// The rows of an epoch, in an order of its own. In each epoch the cuts lie elsewhere, so that no token is always the
    /// first of its row.
    pub fn epoch(&self, epoch: u64, seed: u64) -> Vec<Range<usize>> {
        let mut state = mix(seed ^ mix(epoch));
        let mut next = |below: usize| {
            state = mix(state);
            (state % below as u64) as usize
        };
        let mut rows = Vec::with_capacity(self.n_rows());
        for (text, &end) in self.texts.iter().zip(&self.learnt) {
            let n_rows = (end - text.start - 1).div_ceil(self.n_tokens);
            // the first epoch begins at the beginning; later ones move the cuts, as far as the last row has room for it
            let room = (n_rows * self.n_tokens + 1).saturating_sub(end - text.start);
            let shift = if epoch == 0 || n_rows < 2 { 0 } else { next(self.n_tokens - room.min(self.n_tokens - 1)) };
            let mut begin = text.start;
            let mut row_end = (begin + self.n_tokens - shift + 1).min(end);
            while begin + 1 < end {
                rows.push(begin..row_end);
                begin = row_end - 1;
                row_end = (begin + self.n_tokens + 1).min(end);
            }
        }
        for i in (1..rows.len()).rev() {
            rows.swap(i, next(i + 1));
        }
        rows
    }

    /// The rows of the part that is kept back, evenly spread over it where there are many.
    pub fn held_out(&self) -> Vec<Range<usize>> {
        let mut rows = Vec::new();
        for (text, &learnt) in self.texts.iter().zip(&self.learnt) {
            let mut begin = learnt.saturating_sub(1).max(text.start);
            while learnt < text.end && begin + 1 < text.end {
                let end = (begin + self.n_tokens + 1).min(text.end);
                rows.push(begin..end);
                begin = end - 1;
            }
        }
        let step = rows.len().div_ceil(MAX_HELD_OUT).max(1);
        rows.into_iter().step_by(step).collect()
    }

    /// The tokens and labels of some rows. What a short row lacks has no loss.
    pub fn fill(&self, rows: &[Range<usize>]) -> RowBuffer {
        let mut buffer = RowBuffer::default();
        for row in rows {
            let ids = &self.ids[row.clone()];
            let n = ids.len() - 1;
            buffer.ids.extend_from_slice(&ids[..n]);
            buffer.labels.extend(ids[1..].iter().map(|&id| id as i32));
            buffer.ids.extend(std::iter::repeat_n(ids[0], self.n_tokens - n));
            buffer.labels.extend(std::iter::repeat_n(NO_LABEL, self.n_tokens - n));
        }
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(lengths: &[usize], max_length: usize, eval_fraction: f64) -> Windows {
        let mut next = 0;
        let texts: Vec<Vec<u32>> = lengths
            .iter()
            .map(|&n| {
                next += n as u32;
                (next - n as u32..next).collect()
            })
            .collect();
        Windows::new(&texts, max_length, eval_fraction).unwrap()
    }

    /// The (token, label) pairs of rows.
    fn pairs(windows: &Windows, rows: &[Range<usize>]) -> Vec<(u32, i32)> {
        let RowBuffer { ids, labels } = windows.fill(rows);
        assert_eq!((ids.len(), labels.len()), (rows.len() * windows.n_tokens(), ids.len()));
        let mut pairs: Vec<_> = ids.into_iter().zip(labels).filter(|(_, label)| *label != NO_LABEL).collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn each_epoch_has_every_step_of_each_text_once() {
        for (lengths, max_length, eval_fraction) in [
            (&[100, 1, 33, 2][..], 16, 0.0),
            (&[100, 33], 16, 0.2),
            (&[40], 64, 0.3),
            (&[17], 16, 0.0),
            (&[65], 16, 0.0),
        ] {
            let windows = windows(lengths, max_length, eval_fraction);
            let held_out = pairs(&windows, &windows.held_out());
            assert_eq!(held_out.is_empty(), !windows.has_held_out());
            let mut orders = Vec::new();
            for epoch in 0..6 {
                let rows = windows.epoch(epoch, 9);
                assert_eq!(rows, windows.epoch(epoch, 9));
                let found = pairs(&windows, &rows);
                let mut all = [found.clone(), held_out.clone()].concat();
                all.sort_unstable();
                let mut expected = Vec::new();
                let mut begin = 0u32;
                for &n in lengths {
                    expected.extend((begin..begin + n as u32 - 1).map(|id| (id, id as i32 + 1)));
                    begin += n as u32;
                }
                assert_eq!(all, expected, "{lengths:?}, epoch {epoch}");
                assert!(rows.len() <= windows.n_rows() + lengths.len());
                orders.push(rows);
            }
            assert!(orders[0].len() < 3 || orders[0] != orders[1], "{lengths:?}");
        }
    }

    #[test]
    fn what_cannot_be_learnt_from_is_told() {
        for (texts, fraction, name) in
            [(vec![vec![1]], 0.0, "text"), (vec![], 0.0, "text"), (vec![vec![1, 2, 3]], 1.0, "eval_fraction")]
        {
            assert!(Windows::new(&texts, 8, fraction).unwrap_err().to_string().contains(name));
        }
    }
}
