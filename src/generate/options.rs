//! The options of one generation, read from JSON: unknown names and values out of range are errors that name them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::{Config, token_ids};
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

/// Everything that shapes one generation.
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
}

/// JSON numbers are exact up to 2⁵³ in JavaScript; a larger seed is written as text.
fn seed_as_json<S: serde::Serializer>(seed: &Option<u64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match seed {
        None => serializer.serialize_none(),
        Some(seed) if *seed <= (1 << 53) => serializer.serialize_u64(*seed),
        Some(seed) => serializer.serialize_str(&seed.to_string()),
    }
}

impl GenerateOptions {
    /// The defaults of a model: 50 tokens, greedy, ended by the config's end of text, changed by what its
    /// `generation_config.json` says (of which other fields than ours are another program's business).
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a malformed file or a value in it that is out of range.
    pub fn defaults(config: &Config, generation_config: Option<&str>) -> Result<Self> {
        const FILE: &str = "generation_config.json";
        let mut options = Self {
            max_new_tokens: 50,
            sampling: SamplingParams::default(),
            seed: None,
            stop: Vec::new(),
            eos_token_id: config.eos_token_ids.clone(),
            logprobs: false,
            top_logprobs: 0,
            output_attentions: false,
            context_overflow: ContextOverflow::Stop,
            prefix_reuse: true,
        };
        let Some(text) = generation_config else { return Ok(options) };
        let json: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| Error::file(FILE, "a JSON object", e.to_string()))?;
        if !json.get("eos_token_id").is_none_or(Value::is_null) {
            let ids = token_ids(&json, "eos_token_id", FILE)?;
            options.eos_token_id = ids.into_iter().filter(|&id| (id as usize) < config.vocab_size).collect();
        }
        for name in IN_FILE {
            if let Some(value) = json.get(name).filter(|v| !v.is_null()) {
                let before = options.clone();
                options.set(name, value, config).map_err(in_file)?;
                if let Err(error) = options.sampling.validate() {
                    // a greedy model's file may say anything of sampling (often `"temperature": 0`): it is not used
                    let is_sampling = SAMPLING.contains(&name);
                    if options.sampling.do_sample || !is_sampling {
                        return Err(in_file(error));
                    }
                    options = before;
                }
            }
        }
        return Ok(options);

        fn in_file(error: Error) -> Error {
            match error {
                Error::InvalidOption { option, expected, found } => {
                    Error::file(FILE, format!("`{option}` to be {expected}"), found)
                }
                other => other,
            }
        }
    }

    /// These options, changed by what a caller gives. `null` stands for "not given", except for `eos_token_id`.
    ///
    /// Sampling is on if `do_sample` says so or, where that is not given, if a sampling option or a seed is.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] that names the option, what it takes and what it was given.
    pub fn with(&self, given: &Map<String, Value>, config: &Config) -> Result<Self> {
        let mut options = self.clone();
        for (name, value) in given {
            if !IN_FILE.contains(&name.as_str()) && !ONLY_GIVEN.contains(&name.as_str()) {
                return Err(unknown(name));
            }
            if name == "eos_token_id" || !value.is_null() {
                options.set(name, value, config)?;
            }
        }
        let is_given = |name: &&str| given.get(*name).is_some_and(|v| !v.is_null());
        if !is_given(&"do_sample") && SAMPLING.iter().chain(&["seed"]).any(is_given) {
            options.sampling.do_sample = true;
        }
        options.sampling.validate()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value, config: &Config) -> Result<()> {
        let wrong = |expected: &str| Error::invalid_option(name, expected, value.to_string());
        let number = || value.as_f64().map(|x| x as f32).ok_or_else(|| wrong("a number"));
        let truth = || value.as_bool().ok_or_else(|| wrong("true or false"));
        let whole = |min: u64| {
            let expected = format!("a whole number of at least {min}");
            // 40.0 is a whole number in JSON from JavaScript
            let n = value
                .as_u64()
                .or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x)).map(|x| x as u64));
            n.filter(|&n| n >= min).map(|n| usize::try_from(n).unwrap_or(usize::MAX)).ok_or_else(|| wrong(&expected))
        };
        match name {
            "max_new_tokens" => self.max_new_tokens = whole(1)?,
            "do_sample" => self.sampling.do_sample = truth()?,
            "temperature" => self.sampling.temperature = number()?,
            "top_k" => self.sampling.top_k = whole(0)?,
            "top_p" => self.sampling.top_p = number()?,
            "min_p" => self.sampling.min_p = number()?,
            "repetition_penalty" => self.sampling.repetition_penalty = number()?,
            "presence_penalty" => self.sampling.presence_penalty = number()?,
            "frequency_penalty" => self.sampling.frequency_penalty = number()?,
            "no_repeat_ngram_size" => self.sampling.no_repeat_ngram_size = whole(0)?,
            "seed" => self.seed = Some(seed(value).ok_or_else(|| wrong("a whole number from 0 to 2^64 - 1"))?),
            "stop" => {
                let strings = match value {
                    Value::Array(list) => list.iter().map(|s| s.as_str().map(str::to_string)).collect(),
                    one => one.as_str().map(|s| vec![s.to_string()]),
                };
                self.stop = strings
                    .filter(|s: &Vec<String>| s.iter().all(|s| !s.is_empty()))
                    .ok_or_else(|| wrong("a string or a list of strings, none of them empty"))?;
            }
            "eos_token_id" => {
                let id = |v: &Value| v.as_u64().filter(|&id| id < config.vocab_size as u64).map(|id| id as TokenId);
                let ids = match value {
                    Value::Null => Some(Vec::new()),
                    Value::Array(ids) => ids.iter().map(id).collect(),
                    one => id(one).map(|id| vec![id]),
                };
                let expected = format!("a token id below {}, a list of them, or null", config.vocab_size);
                self.eos_token_id = ids.ok_or_else(|| wrong(&expected))?;
            }
            "logprobs" => self.logprobs = truth()?,
            "top_logprobs" => {
                let n = whole(0)?;
                if n > config.vocab_size {
                    return Err(wrong(&format!("at most the vocabulary's {} tokens", config.vocab_size)));
                }
                self.top_logprobs = n;
                self.logprobs |= n > 0;
            }
            "output_attentions" => self.output_attentions = truth()?,
            "context_overflow" => {
                self.context_overflow = match value.as_str() {
                    Some("error") => ContextOverflow::Error,
                    Some("stop") => ContextOverflow::Stop,
                    Some("slide") => ContextOverflow::Slide,
                    _ => return Err(wrong("\"error\", \"stop\" or \"slide\"")),
                }
            }
            "prefix_reuse" => self.prefix_reuse = truth()?,
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::invalid_option(
        name,
        format!("one of {}, {}", IN_FILE.join(", "), ONLY_GIVEN.join(", ")),
        "an unknown option",
    )
}

/// Options that a `generation_config.json` may give; `do_sample` before what depends on it.
const IN_FILE: [&str; 8] = [
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
];

/// Options that only a caller gives.
const ONLY_GIVEN: [&str; 10] = [
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "eos_token_id",
    "logprobs",
    "top_logprobs",
    "output_attentions",
    "context_overflow",
    "prefix_reuse",
];

/// Options that shape the draw, and have no effect without one.
const SAMPLING: [&str; 4] = ["temperature", "top_k", "top_p", "min_p"];

/// A number, or its digits as text where JavaScript's numbers do not reach.
fn seed(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        Value::Number(n) => n.as_u64().or_else(|| {
            n.as_f64().filter(|x| x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(x)).map(|x| x as u64)
        }),
        _ => None,
    }
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
        GenerateOptions::defaults(&config(), None)?.with(&given, &config())
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
            (json!({ "temperature": 0 }), "temperature"),
            (json!({ "temperature": "NaN" }), "temperature"),
            (json!({ "top_p": 1.1 }), "top_p"),
            (json!({ "min_p": -0.1 }), "min_p"),
            (json!({ "top_k": -1 }), "top_k"),
            (json!({ "repetition_penalty": 0 }), "repetition_penalty"),
            (json!({ "presence_penalty": 3 }), "presence_penalty"),
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
    fn generation_config_gives_the_defaults() {
        let text = r#"{"do_sample":true,"temperature":0.8,"top_k":40,"max_length":50,"eos_token_id":[3,200]}"#;
        let options = GenerateOptions::defaults(&config(), Some(text)).unwrap();
        assert!(options.sampling.do_sample);
        assert_eq!((options.sampling.top_k, options.eos_token_id.as_slice()), (40, &[3][..]));
        let error =
            GenerateOptions::defaults(&config(), Some(r#"{"do_sample":true,"top_p":7}"#)).unwrap_err().to_string();
        assert!(error.contains("generation_config.json") && error.contains("top_p"), "{error}");
        let greedy = GenerateOptions::defaults(&config(), Some(r#"{"do_sample":false,"temperature":0}"#)).unwrap();
        assert_eq!(greedy.sampling.temperature, 1.0);
    }
}
