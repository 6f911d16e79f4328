//! How well a model predicts a text: bits per byte, which do not depend on the vocabulary, and nats per token.

use gpt2_web::tokenizer::Tokenizer;

use crate::Result;
use crate::fused::{LaneOptions, Lanes, Model, NO_LABEL, Rows, Sums, Task};

/// A scored text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Tokens that were predicted.
    pub n_tokens: usize,
    /// UTF-8 bytes of the whole text.
    pub n_bytes: usize,
    /// Σ -ln p, nats.
    pub nll: f64,
}

impl Score {
    /// Nats per predicted token.
    pub fn nats_per_token(&self) -> f64 {
        self.nll / self.n_tokens as f64
    }

    /// exp(nats per token)
    pub fn perplexity(&self) -> f64 {
        self.nats_per_token().exp()
    }

    /// Bits per byte of the text.
    pub fn bits_per_byte(&self) -> f64 {
        self.nll / std::f64::consts::LN_2 / self.n_bytes as f64
    }
}

/// Cuts a text into pieces of so many characters, the last one shorter.
pub fn pieces(text: &str, n_characters: usize) -> Vec<&str> {
    let mut cuts: Vec<usize> = text.char_indices().step_by(n_characters.max(1)).map(|(at, _)| at).collect();
    cuts.push(text.len());
    cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// Scores pieces of a text one by one. As in the inference crate's `Scorer`, the first token of each has no prediction,
/// and a piece that is longer than the context slides through it by halves.
///
/// # Errors
/// What the tokenizer says.
pub fn score(model: &Model, params: &[f32], tokenizer: &Tokenizer, pieces: &[&str], n_lanes: usize) -> Result<Score> {
    let n_ctx = model.config.n_positions;
    let mut lanes = Lanes::new(LaneOptions { n_lanes, rows_at_once: 1, recompute: true });
    let (mut sums, mut n_bytes) = (Sums::default(), 0);
    for piece in pieces {
        n_bytes += piece.len();
        let ids = tokenizer.encode_continuation(piece)?;
        // windows as (first token, first label); the labels before were in the window before
        let mut windows = vec![(0, 1)];
        while let Some(&(begin, _)) = windows.last().filter(|(begin, _)| begin + n_ctx + 1 < ids.len()) {
            let next = begin + n_ctx;
            windows.push((next - n_ctx / 2, next + 1));
        }
        for (begin, first_label) in windows {
            let end = ids.len().min(begin + n_ctx + 1);
            let n_tokens = end.saturating_sub(begin + 1);
            if n_tokens == 0 {
                continue;
            }
            let label = |at: usize| if at < first_label { NO_LABEL } else { ids[at] as i32 };
            let labels: Vec<i32> = (begin + 1..end).map(label).collect();
            let rows = Rows { ids: &ids[begin..end - 1], labels: &labels, n_tokens };
            sums = sums.and(lanes.loss(model, params, Task { rows, dropout_seed: None, teacher: None, lora: None }));
        }
    }
    Ok(Score { n_tokens: sums.n_labels, n_bytes, nll: sums.nll })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        assert_eq!(pieces("aäbcd", 2), ["aä", "bc", "d"]);
        assert_eq!(pieces("ab", 5), ["ab"]);
        assert_eq!(pieces("", 5), [""; 0]);
    }
}
