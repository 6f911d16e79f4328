//! The parameters of a choice, as they are given: every number keeps its digits, so that a recipe can tell them again.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::token::TokenId;

/// How the next token is chosen. The default is greedy, with every step neutral.
///
/// Names and meanings are those of transformers' `GenerationConfig`, or OpenAI's where it is named.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SamplingParams {
    /// `false`: the most likely token after the processors; temperature, `top_k`, `top_p`, `min_p` and the coin are unused.
    pub do_sample: bool,
    /// Divides the logits. 1 is neutral; 0 is greedy, whatever `do_sample` says.
    pub temperature: f64,
    /// Keeps the tokens that are at least as likely as the k-th most likely, so more than k on a tie. 0 is off.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probability reaches this, at least one; in [0, 1]. 1 is off. Where the
    /// cut falls among equal logits the lower ids stay (transformers leaves that to an unstable sort).
    pub top_p: f64,
    /// Keeps the tokens with at least this fraction of the most likely token's probability; in [0, 1]. 0 is off.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of each token in prompt and output; above 0. 1 is neutral
    /// (Keskar et al. 2019, CTRL, §4.1).
    pub repetition_penalty: f64,
    /// Taken off the logit of each token generated so far, in [-2, 2]. 0 is neutral (OpenAI API reference).
    pub presence_penalty: f64,
    /// Taken off the logit once for each time the token was generated so far, in [-2, 2]. 0 is neutral (same source).
    pub frequency_penalty: f64,
    /// No sequence of this many tokens occurs twice in prompt and output. 0 is off.
    pub no_repeat_ngram_size: usize,
    /// Added to the logits of these tokens, in [-100, 100] (OpenAI API reference).
    #[serde(serialize_with = "bias_as_json")]
    pub logit_bias: BTreeMap<TokenId, f64>,
    /// Added to the logit of a sequence's last token where the text ends with the tokens before it; finite.
    pub sequence_bias: Vec<(Vec<TokenId>, f64)>,
    /// Sequences that are never completed. One that is a single token that ends the text does not count.
    pub bad_words_ids: Vec<Vec<TokenId>>,
    /// The text does not end by itself before it has so many new tokens.
    pub min_new_tokens: usize,
    /// The token that a text goes on with which is one token long.
    pub forced_bos_token_id: Option<TokenId>,
    /// One of these is the last token that `max_new_tokens` allows; empty is off.
    pub forced_eos_token_id: Vec<TokenId>,
    /// (start, factor): from `start` new tokens on, tokens that end the text grow more likely, by `factor` to the power of
    /// the tokens since then.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens that are never chosen.
    pub suppress_tokens: Vec<TokenId>,
    /// Tokens that are not chosen first.
    pub begin_suppress_tokens: Vec<TokenId>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram_size: 0,
            logit_bias: BTreeMap::new(),
            sequence_bias: Vec::new(),
            bad_words_ids: Vec::new(),
            min_new_tokens: 0,
            forced_bos_token_id: None,
            forced_eos_token_id: Vec::new(),
            exponential_decay_length_penalty: None,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Checks every range.
    ///
    /// # Errors
    /// `invalid_option` with the first option that is out of range, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |option: &str, expected: &str, found: String| Err(Error::invalid_option(option, expected, found));
        // the arithmetic is in f32, where 1e-60 is 0 and 1e60 infinite
        let is_above_0 = |x: f64| (x as f32) > 0.0 && (x as f32).is_finite();
        if self.temperature != 0.0 && !is_above_0(self.temperature) {
            return wrong("temperature", "a number of at least 0", self.temperature.to_string());
        }
        if !is_above_0(self.repetition_penalty) {
            return wrong("repetition_penalty", "a number above 0", self.repetition_penalty.to_string());
        }
        for (option, value, min, max, expected) in [
            ("top_p", self.top_p, 0.0, 1.0, "a number from 0 to 1"),
            ("min_p", self.min_p, 0.0, 1.0, "a number from 0 to 1"),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0, "a number from -2 to 2"),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "a number from -2 to 2"),
        ] {
            // NaN is in no range
            if !(min..=max).contains(&value) {
                return wrong(option, expected, value.to_string());
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(*bias)) {
            return wrong("logit_bias", "numbers from -100 to 100", format!("{bias} for token {id}"));
        }
        let sequences = self.sequence_bias.iter().map(|(ids, _)| ids);
        for (option, mut sequences) in [
            ("sequence_bias", Box::new(sequences) as Box<dyn Iterator<Item = &Vec<TokenId>>>),
            ("bad_words_ids", Box::new(self.bad_words_ids.iter())),
        ] {
            if sequences.any(Vec::is_empty) {
                return wrong(option, "sequences of at least one token", "an empty one".into());
            }
        }
        if let Some((_, bias)) = self.sequence_bias.iter().find(|(_, bias)| !(*bias as f32).is_finite()) {
            return wrong("sequence_bias", "finite numbers", bias.to_string());
        }
        match self.exponential_decay_length_penalty {
            Some((_, factor)) if !is_above_0(factor) => {
                wrong("exponential_decay_length_penalty", "a factor above 0", factor.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Whether the most likely token is taken and no coin is flipped.
    pub fn is_greedy(&self) -> bool {
        !self.do_sample || self.temperature == 0.0
    }
}

/// A JavaScript object's keys are strings.
fn bias_as_json<S: Serializer>(bias: &BTreeMap<TokenId, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(bias.iter().map(|(id, bias)| (id.to_string(), bias)))
}
