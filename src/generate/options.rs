//! The options of one generation, read from JSON: unknown names and values out of range are errors that name them.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::value::Given;
use crate::checkpoint::Config;
use crate::error::{Error, Result};
use crate::sampler::SamplingParams;
use crate::token::TokenId;

/// What happens when the text reaches the end of the context window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextOverflow {
    /// A generation that could reach it is refused before it starts.
    Error,
    /// The text ends there.
    Stop,
    /// The older half of the window is forgotten and the text goes on.
    Slide,
}

/// Most texts of one prompt.
pub const MAX_SEQUENCES: usize = 128;

/// How many tokens may be guessed at once. As JSON it is `"auto"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum GuessLimit {
    /// As many as promise to save time.
    #[serde(serialize_with = "auto_as_json")]
    Auto,
    /// Of these, so many at most; 0 is off.
    AtMost(usize),
}

impl GuessLimit {
    /// The number, if there is one.
    pub fn most(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::AtMost(n) => Some(n),
        }
    }
}

fn auto_as_json<S: Serializer>(serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str("auto")
}

/// Everything that shapes one generation. As JSON it is what a recipe holds: [`GenerateOptions::with`] takes it back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerateOptions {
    /// At most so many tokens; at least 1.
    pub max_new_tokens: usize,
    /// How a token is chosen.
    #[serde(flatten)]
    pub sampling: SamplingParams,
    /// Seed of the random numbers; chosen by the caller if none is given.
    #[serde(serialize_with = "seed_as_json")]
    pub seed: Option<u64>,
    /// Strings that end the text and are no part of it.
    pub stop: Vec<String>,
    /// Tokens that end the text; empty to go on past end of text.
    pub eos_token_id: Vec<TokenId>,
    /// Whether each chunk carries its token's log-probability.
    pub logprobs: bool,
    /// How many of the most likely tokens each chunk carries.
    pub top_logprobs: usize,
    /// Whether each chunk carries its token's attention weights.
    pub output_attentions: bool,
    /// What happens at the end of the context window.
    pub context_overflow: ContextOverflow,
    /// Whether to start from what an earlier call computed for the same beginning.
    pub prefix_reuse: bool,
    /// So many texts of the prompt, 1 to [`MAX_SEQUENCES`].
    pub num_return_sequences: usize,
    /// How many tokens may be guessed from earlier text; changes no text.
    pub prompt_lookup_num_tokens: GuessLimit,
    /// What the model's files say of the length of the whole text, as far as nothing says how many tokens are new.
    #[serde(skip)]
    pub total_length: TotalLength,
}

/// transformers' `max_length` and `min_length`, which count the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalLength {
    /// At most so many tokens; of no effect on a prompt that has as many.
    pub max: Option<usize>,
    /// The text does not end by itself before it has so many.
    pub min: Option<usize>,
}

fn seed_as_json<S: Serializer>(seed: &Option<u64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match seed {
        None => serializer.serialize_none(),
        Some(seed) => exact_as_json(seed, serializer),
    }
}

/// JSON numbers are exact up to 2⁵³ in JavaScript; a larger one is written as text.
pub(super) fn exact_as_json<S: Serializer>(n: &u64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match n {
        0..=0x20_0000_0000_0000 => serializer.serialize_u64(*n),
        _ => serializer.serialize_str(&n.to_string()),
    }
}

/// Every option's name.
const NAMES: [&str; 29] = [
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "logit_bias",
    "sequence_bias",
    "bad_words_ids",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "seed",
    "stop",
    "eos_token_id",
    "logprobs",
    "top_logprobs",
    "output_attentions",
    "context_overflow",
    "prefix_reuse",
    "num_return_sequences",
    "prompt_lookup_num_tokens",
];

/// Options of which `null` is a value, "none". Of the others it stands for "not given".
const MAY_BE_NULL: [&str; 5] = [
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "prompt_lookup_num_tokens",
];

/// Options that turn sampling on where `do_sample` is not given.
const SAMPLING: [&str; 5] = ["temperature", "top_k", "top_p", "min_p", "seed"];

impl GenerateOptions {
    /// What holds where neither the caller nor a `generation_config.json` says otherwise: 50 tokens, greedy, ended by the
    /// config's end of text; of a draw, the 50 most likely tokens, as in transformers.
    pub(super) fn of_model(config: &Config) -> Self {
        Self {
            max_new_tokens: 50,
            sampling: SamplingParams { top_k: 50, ..SamplingParams::default() },
            seed: None,
            stop: Vec::new(),
            eos_token_id: config.eos_token_ids.clone(),
            logprobs: false,
            top_logprobs: 0,
            output_attentions: false,
            context_overflow: ContextOverflow::Stop,
            prefix_reuse: true,
            num_return_sequences: 1,
            prompt_lookup_num_tokens: GuessLimit::Auto,
            total_length: TotalLength::default(),
        }
    }

    /// These options, changed by what a caller gives. `null` stands for "not given", except where an option may be none.
    ///
    /// Sampling is on if `do_sample` says so or, where that is not given, if a sampling option or a seed is; never at
    /// temperature 0.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] that names the option, what it takes and what it was given.
    pub fn with(&self, given: &Map<String, Value>, config: &Config) -> Result<Self> {
        let mut options = self.clone();
        for (name, value) in given {
            if !NAMES.contains(&name.as_str()) {
                return Err(unknown(name));
            }
            if MAY_BE_NULL.contains(&name.as_str()) || !value.is_null() {
                options.set(Given { name, value, vocab_size: config.vocab_size })?;
            }
        }
        let is_given = |name: &str| given.get(name).is_some_and(|v| !v.is_null());
        if !is_given("do_sample") && SAMPLING.into_iter().any(is_given) {
            options.sampling.do_sample = true;
        }
        options.sampling.validate()?;
        options.sampling.do_sample = !options.sampling.is_greedy();
        if options.num_return_sequences > 1 && !options.sampling.do_sample {
            // as in transformers, which has no beams to give several greedy texts either
            let (name, n) = ("num_return_sequences", options.num_return_sequences);
            return Err(Error::invalid_option(
                name,
                "1 without `do_sample`, since all texts would be the same",
                n.to_string(),
            ));
        }
        // new tokens count before all tokens
        if is_given("max_new_tokens") {
            options.total_length.max = None;
        }
        if is_given("min_new_tokens") {
            options.total_length.min = None;
        }
        Ok(options)
    }

    /// How many new tokens a prompt of `n_prompt` gets, where the model's files count all of them.
    pub(super) fn resolve_length(&mut self, n_prompt: usize) {
        let TotalLength { max, min } = std::mem::take(&mut self.total_length);
        if let Some(max) = max.filter(|&max| max > n_prompt) {
            self.max_new_tokens = max - n_prompt;
        }
        if let Some(min) = min {
            self.sampling.min_new_tokens = min.saturating_sub(n_prompt);
        }
    }

    /// Sets one option; ranges of the sampling options are left for [`SamplingParams::validate`].
    pub(super) fn set(&mut self, given: Given) -> Result<()> {
        let sampling = &mut self.sampling;
        match given.name {
            "max_new_tokens" => self.max_new_tokens = given.whole(1)?,
            "do_sample" => sampling.do_sample = given.truth()?,
            "temperature" => sampling.temperature = given.number()?,
            "top_k" => sampling.top_k = given.whole(0)?,
            "top_p" => sampling.top_p = given.number()?,
            "min_p" => sampling.min_p = given.number()?,
            "repetition_penalty" => sampling.repetition_penalty = given.number()?,
            "presence_penalty" => sampling.presence_penalty = given.number()?,
            "frequency_penalty" => sampling.frequency_penalty = given.number()?,
            "no_repeat_ngram_size" => sampling.no_repeat_ngram_size = given.whole(0)?,
            "logit_bias" => sampling.logit_bias = given.bias()?,
            "sequence_bias" => sampling.sequence_bias = given.sequence_bias()?,
            "bad_words_ids" => sampling.bad_words_ids = given.sequences()?,
            "min_new_tokens" => sampling.min_new_tokens = given.whole(0)?,
            "forced_bos_token_id" => sampling.forced_bos_token_id = given.optional_token()?,
            "forced_eos_token_id" => sampling.forced_eos_token_id = given.tokens_or_one()?,
            "exponential_decay_length_penalty" => sampling.exponential_decay_length_penalty = given.decay()?,
            "suppress_tokens" => sampling.suppress_tokens = given.tokens()?,
            "begin_suppress_tokens" => sampling.begin_suppress_tokens = given.tokens()?,
            "seed" => self.seed = Some(given.seed()?),
            "stop" => self.stop = given.strings()?,
            "eos_token_id" => self.eos_token_id = given.tokens_or_one()?,
            "logprobs" => self.logprobs = given.truth()?,
            "top_logprobs" => {
                let n = given.whole(0)?;
                if n > given.vocab_size {
                    return Err(given.wrong(&format!("at most the vocabulary's {} tokens", given.vocab_size)));
                }
                self.top_logprobs = n;
                self.logprobs |= n > 0;
            }
            "output_attentions" => self.output_attentions = given.truth()?,
            "context_overflow" => {
                self.context_overflow = match given.value.as_str() {
                    Some("error") => ContextOverflow::Error,
                    Some("stop") => ContextOverflow::Stop,
                    Some("slide") => ContextOverflow::Slide,
                    _ => return Err(given.wrong("\"error\", \"stop\" or \"slide\"")),
                }
            }
            "prefix_reuse" => self.prefix_reuse = given.truth()?,
            "num_return_sequences" => {
                self.num_return_sequences = given.whole(1)?;
                if self.num_return_sequences > MAX_SEQUENCES {
                    return Err(given.wrong(&format!("a whole number from 1 to {MAX_SEQUENCES}")));
                }
            }
            "prompt_lookup_num_tokens" => {
                self.prompt_lookup_num_tokens = match given.value {
                    Value::String(text) if text == "auto" => GuessLimit::Auto,
                    Value::Null => GuessLimit::AtMost(0),
                    _ => {
                        let expected = "\"auto\", null or a whole number of at least 0";
                        GuessLimit::AtMost(given.whole(0).map_err(|_| given.wrong(expected))?)
                    }
                }
            }
            _ => return Err(unknown(given.name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::invalid_option(name, format!("one of {}", NAMES.join(", ")), "an unknown option")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Config {
        Config::from_json(r#"{"model_type":"gpt2","vocab_size":100,"eos_token_id":7}"#).unwrap()
    }

    fn with(given: Value) -> Result<GenerateOptions> {
        let Value::Object(given) = given else { panic!("an object") };
        GenerateOptions::of_model(&config()).with(&given, &config())
    }

    #[test]
    fn sampling_is_on_when_something_asks_for_it() {
        assert!(!with(json!({})).unwrap().sampling.do_sample);
        for name in ["temperature", "top_p", "min_p", "top_k", "seed"] {
            assert!(with(json!({ name: 1 })).unwrap().sampling.do_sample, "{name}");
            assert!(!with(json!({ name: 1, "do_sample": false })).unwrap().sampling.do_sample, "{name}");
        }
        assert!(!with(json!({ "seed": null, "repetition_penalty": 1.2 })).unwrap().sampling.do_sample);
    }

    #[test]
    fn wrong_values_are_named() {
        for (given, option) in [
            (json!({ "max_new_tokens": 0 }), "max_new_tokens"),
            (json!({ "max_new_tokens": 1.5 }), "max_new_tokens"),
            (json!({ "temperature": -0.1 }), "temperature"),
            (json!({ "temperature": 1e60 }), "temperature"),
            (json!({ "temperature": 1e-60 }), "temperature"),
            (json!({ "temperature": "NaN" }), "temperature"),
            (json!({ "top_p": 1.1 }), "top_p"),
            (json!({ "min_p": -0.1 }), "min_p"),
            (json!({ "top_k": -1 }), "top_k"),
            (json!({ "repetition_penalty": 0 }), "repetition_penalty"),
            (json!({ "presence_penalty": 3 }), "presence_penalty"),
            (json!({ "min_new_tokens": -1 }), "min_new_tokens"),
            (json!({ "suppress_tokens": 5 }), "suppress_tokens"),
            (json!({ "suppress_tokens": [100] }), "suppress_tokens"),
            (json!({ "bad_words_ids": [5] }), "bad_words_ids"),
            (json!({ "bad_words_ids": [[]] }), "bad_words_ids"),
            (json!({ "logit_bias": { "100": 1 } }), "logit_bias"),
            (json!({ "logit_bias": { "x": 1 } }), "logit_bias"),
            (json!({ "logit_bias": { "1": "x" } }), "logit_bias"),
            (json!({ "logit_bias": { "1": 101 } }), "logit_bias"),
            (json!({ "logit_bias": [1] }), "logit_bias"),
            (json!({ "sequence_bias": [[[1]]] }), "sequence_bias"),
            (json!({ "sequence_bias": [[[], 1]] }), "sequence_bias"),
            (json!({ "forced_eos_token_id": -1 }), "forced_eos_token_id"),
            (json!({ "forced_bos_token_id": [1] }), "forced_bos_token_id"),
            (json!({ "exponential_decay_length_penalty": [1, 0] }), "exponential_decay_length_penalty"),
            (json!({ "seed": -1 }), "seed"),
            (json!({ "seed": "18446744073709551616" }), "seed"),
            (json!({ "stop": "" }), "stop"),
            (json!({ "stop": [1] }), "stop"),
            (json!({ "eos_token_id": 100 }), "eos_token_id"),
            (json!({ "top_logprobs": 101 }), "top_logprobs"),
            (json!({ "context_overflow": "wrap" }), "context_overflow"),
            (json!({ "do_sample": 1 }), "do_sample"),
            (json!({ "max_tokens": 5 }), "max_tokens"),
            (json!({ "max_tokens": null }), "max_tokens"),
        ] {
            match with(given) {
                Err(Error::InvalidOption { option: named, .. }) => assert_eq!(named, option),
                other => panic!("{option}: {other:?}"),
            }
        }
    }

    #[test]
    fn null_is_not_given_except_for_end_of_text() {
        assert_eq!(with(json!({ "max_new_tokens": null })).unwrap().max_new_tokens, 50);
        assert_eq!(with(json!({})).unwrap().eos_token_id, [7]);
        assert!(with(json!({ "eos_token_id": null })).unwrap().eos_token_id.is_empty());
    }

    #[test]
    fn seeds_of_64_bits() {
        assert_eq!(with(json!({ "seed": "18446744073709551615" })).unwrap().seed, Some(u64::MAX));
        let json = serde_json::to_value(with(json!({ "seed": "18446744073709551615" })).unwrap()).unwrap();
        assert_eq!(json["seed"], "18446744073709551615");
        assert_eq!(serde_json::to_value(with(json!({ "seed": 5.0 })).unwrap()).unwrap()["seed"], 5);
    }

    #[test]
    fn temperature_0_is_greedy() {
        for given in
            [json!({ "temperature": 0 }), json!({ "temperature": 0, "do_sample": true, "seed": 5, "top_k": 3 })]
        {
            let options = with(given.clone()).unwrap();
            assert!(!options.sampling.do_sample && options.sampling.is_greedy(), "{given}");
            assert_eq!(serde_json::to_value(&options).unwrap()["temperature"], 0.0, "as it was given");
        }
    }

    #[test]
    fn a_recipe_has_the_numbers_as_given_and_gives_the_same_options() {
        let given = json!({
            "temperature": 0.8, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.3,
            "frequency_penalty": -0.7, "logit_bias": { "3": -1.7, "99": 100 }, "bad_words_ids": [[1, 2], [3]],
            "suppress_tokens": [4], "begin_suppress_tokens": [5], "sequence_bias": [[[6, 7], 0.6]], "min_new_tokens": 2,
            "forced_bos_token_id": 1, "forced_eos_token_id": 8, "exponential_decay_length_penalty": [3, 1.01],
            "seed": 11, "stop": "x", "eos_token_id": [9],
        });
        let options = with(given.clone()).unwrap();
        let recipe = serde_json::to_value(&options).unwrap();
        for name in ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"] {
            assert_eq!(recipe[name], given[name], "{name}");
        }
        assert_eq!(recipe["logit_bias"], json!({ "3": -1.7, "99": 100.0 }));
        assert!(recipe.to_string().contains("\"temperature\":0.8,"), "{recipe}");
        assert_eq!(recipe["top_k"], 50, "the default is told");
        assert_eq!(with(recipe).unwrap(), options);
        // also where the model's file says otherwise
        let neutral = with(json!({ "seed": 1, "eos_token_id": null })).unwrap();
        let recipe = serde_json::to_value(&neutral).unwrap();
        let Value::Object(recipe) = recipe else { unreachable!() };
        assert_eq!(options.with(&recipe, &config()).unwrap(), neutral);
    }
}
