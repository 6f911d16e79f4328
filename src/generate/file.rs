//! A model's own defaults: `generation_config.json` or, where there is none, the fields of generation that older
//! `config.json` files hold. They are advice, so what cannot be used is left out with a warning.

use serde_json::{Map, Value};

use super::options::GenerateOptions;
use super::value::Given;
use crate::checkpoint::{Config, read_json, whole_number};
use crate::error::{Error, Result, excerpt};
use crate::token::TokenId;

const FILE: &str = "generation_config.json";
const CONFIG_FILE: &str = "config.json";

/// transformers' default for `max_length`, which older versions wrote into every `config.json`.
const WRITTEN_MAX_LENGTH: i64 = 20;

/// Options that the file may give, under their own names.
const OPTIONS: [&str; 17] = [
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "sequence_bias",
    "bad_words_ids",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "stop_strings",
];

/// What would change the text in transformers and is not done here, with the values at which it changes nothing.
const LEFT_OUT: [(&str, &[f64]); 15] = [
    ("num_beams", &[1.0]),
    ("num_beam_groups", &[1.0]),
    ("num_return_sequences", &[1.0]),
    ("penalty_alpha", &[0.0]),
    ("typical_p", &[1.0]),
    ("epsilon_cutoff", &[0.0, 1.0]),
    ("eta_cutoff", &[0.0, 1.0]),
    ("top_h", &[]),
    ("encoder_repetition_penalty", &[1.0]),
    ("encoder_no_repeat_ngram_size", &[0.0]),
    ("guidance_scale", &[1.0]),
    ("watermarking_config", &[]),
    ("constraints", &[]),
    ("force_words_ids", &[]),
    ("max_time", &[]),
];

impl GenerateOptions {
    /// The defaults of a model: those of its `generation_config.json`, as far as they can be used, and ours. With them one
    /// sentence for each thing that the file says and that is left out. Fields that are no generation's business are not
    /// mentioned.
    pub fn defaults(config: &Config, generation_config: Option<&str>) -> (Self, Vec<String>) {
        match generation_config {
            Some(text) => Self::of_model(config).advised(FILE, read_json(FILE, text), config),
            None => (Self::of_model(config), Vec::new()),
        }
    }

    /// The defaults of a model without a `generation_config.json`: what `config_json`, the text of its `config.json`, says
    /// of generation counts then, as in transformers.
    pub fn defaults_in_config(config: &Config, config_json: &str) -> (Self, Vec<String>) {
        let json = read_json(CONFIG_FILE, config_json).map(|mut json| {
            if let Some(fields) = json.as_object_mut() {
                fields.remove("eos_token_id"); // the config has read it
                if fields.get("max_length").and_then(whole_number) == Some(WRITTEN_MAX_LENGTH) {
                    fields.remove("max_length");
                }
            }
            json
        });
        Self::of_model(config).advised(CONFIG_FILE, json, config)
    }

    fn advised(mut self, file: &str, json: Result<Value>, config: &Config) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        match json {
            Ok(Value::Object(json)) => self.advise(file, json, config, &mut warnings),
            Ok(other) => {
                let found = excerpt(&other.to_string());
                warnings.push(format!("{file} is left out: expected a JSON object, found {found}"));
            }
            Err(error) => warnings.push(format!("{file} is left out: {error}")),
        }
        (self, warnings)
    }

    /// Takes what the file says and what can be used of it.
    fn advise(&mut self, file: &str, mut json: Map<String, Value>, config: &Config, warnings: &mut Vec<String>) {
        json.retain(|_, value| !value.is_null());
        let vocab_size = config.vocab_size;
        let left_out = |name: &str, error: Error| match error {
            Error::InvalidOption { expected, found, .. } => {
                format!("{file}: `{name}` is left out: expected {expected}, found {found}")
            }
            other => format!("{file}: `{name}` is left out: {other}"),
        };
        if let Some(value) = json.get("eos_token_id") {
            match eos(value, vocab_size) {
                Some(ids) => self.eos_token_id = ids,
                None => {
                    let given = Given { name: "eos_token_id", value, vocab_size };
                    warnings.push(left_out("eos_token_id", given.wrong("a token id or a list of them")));
                }
            }
        }
        for name in OPTIONS {
            let Some(value) = json.get_mut(name) else { continue };
            let n_unknown = retain_known(name, value, vocab_size);
            if n_unknown > 0 {
                let what = "name tokens that the vocabulary does not have";
                warnings.push(format!("{file}: {n_unknown} entries of `{name}` are left out: they {what}"));
            }
            match name {
                // other programs' way to say off
                "top_k" if value.as_f64() == Some(-1.0) => *value = 0.into(),
                // greedy, and should the caller ask for a draw, not this
                "temperature" if value.as_f64() == Some(0.0) => {
                    self.sampling.do_sample = false;
                    continue;
                }
                _ => {}
            }
            let before = self.clone();
            let own_name = if name == "stop_strings" { "stop" } else { name };
            let outcome = self.set(Given { name: own_name, value, vocab_size }).and_then(|()| self.sampling.validate());
            if let Err(error) = outcome {
                *self = before;
                warnings.push(left_out(name, error));
            }
        }
        for (name, min, wins) in [("max_length", 1, "max_new_tokens"), ("min_length", 0, "min_new_tokens")] {
            let Some(value) = json.get(name) else { continue };
            match (Given { name, value, vocab_size }.whole(min), name) {
                (Err(error), _) => warnings.push(left_out(name, error)),
                (Ok(_), _) if json.contains_key(wins) => {}
                (Ok(n), "max_length") => self.total_length.max = Some(n),
                (Ok(n), _) => self.total_length.min = Some(n),
            }
        }
        for (name, neutral) in LEFT_OUT {
            let Some(value) = json.get(name) else { continue };
            let is_neutral = value.as_f64().is_some_and(|x| neutral.contains(&x)) || is_nothing(value);
            if !is_neutral {
                let found = excerpt(&value.to_string());
                warnings.push(format!("{file}: `{name}` ({found}) is left out: this is not supported"));
            }
        }
    }
}

/// `false`, or an empty list or object.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Bool(is_on) => !is_on,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// Ids that end a text. Those that the vocabulary does not have (-1 is one way to say that there is none) end no text.
fn eos(value: &Value, vocab_size: usize) -> Option<Vec<TokenId>> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let ids: Option<Vec<i64>> = list.iter().map(whole_number).collect();
    let known = |id: i64| TokenId::try_from(id).ok().filter(|&id| (id as usize) < vocab_size);
    Some(ids?.into_iter().filter_map(known).collect())
}

/// Takes those entries out of a list of tokens, or of sequences, which name a token that the vocabulary does not have: it
/// can never be chosen. → how many
fn retain_known(name: &str, value: &mut Value, vocab_size: usize) -> usize {
    let is_unknown = |id: &Value| id.as_i64().is_some_and(|id| id < 0 || id >= vocab_size as i64);
    let any_unknown = |ids: &Value| ids.as_array().is_some_and(|ids| ids.iter().any(is_unknown));
    let Value::Array(list) = value else { return 0 };
    let n_before = list.len();
    match name {
        "suppress_tokens" | "begin_suppress_tokens" => list.retain(|id| !is_unknown(id)),
        "bad_words_ids" => list.retain(|ids| !any_unknown(ids)),
        "sequence_bias" => list.retain(|pair| !pair.get(0).is_some_and(any_unknown)),
        _ => {}
    }
    n_before - list.len()
}

#[cfg(test)]
mod tests {
    use super::super::options::TotalLength;
    use super::*;
    use serde_json::json;

    fn config() -> Config {
        Config::from_json(r#"{"model_type":"gpt2","vocab_size":100,"eos_token_id":7}"#).unwrap()
    }

    fn defaults(text: &str) -> (GenerateOptions, Vec<String>) {
        GenerateOptions::defaults(&config(), Some(text))
    }

    /// What it gives without a word of warning.
    fn quiet(json: Value) -> GenerateOptions {
        let (options, warnings) = defaults(&json.to_string());
        assert!(warnings.is_empty(), "{json}: {warnings:?}");
        options
    }

    #[test]
    fn the_file_gives_the_defaults() {
        let options = quiet(json!({ "do_sample": true, "temperature": 0.8, "top_k": 40, "eos_token_id": [3, 200] }));
        assert!(options.sampling.do_sample && options.sampling.temperature == 0.8);
        assert_eq!((options.sampling.top_k, options.eos_token_id.as_slice()), (40, &[3][..]));
        assert_eq!(quiet(json!({})).sampling.top_k, 50, "transformers' default");
        assert_eq!(quiet(json!({ "top_k": 0 })).sampling.top_k, 0);
        assert_eq!(quiet(json!({ "top_k": -1 })).sampling.top_k, 0);
        assert_eq!(quiet(json!({ "top_k": null, "eos_token_id": null })).eos_token_id, [7]);
        assert!(quiet(json!({ "eos_token_id": -1 })).eos_token_id.is_empty());
        assert_eq!(quiet(json!({ "eos_token_id": [3.0, 5] })).eos_token_id, [3, 5], "somebody computed it");
        assert_eq!(quiet(json!({ "stop_strings": "\n\n" })).stop, ["\n\n"]);
        let options = quiet(json!({
            "suppress_tokens": [1, 2], "begin_suppress_tokens": [3], "bad_words_ids": [[4, 5]], "min_new_tokens": 2,
            "sequence_bias": [[[6], -0.5]], "forced_bos_token_id": 8, "forced_eos_token_id": [9],
            "exponential_decay_length_penalty": [15, 1.6], "no_repeat_ngram_size": 3, "max_new_tokens": 9,
        }));
        let p = &options.sampling;
        assert_eq!((&p.suppress_tokens[..], &p.begin_suppress_tokens[..]), (&[1, 2][..], &[3][..]));
        assert_eq!((&p.bad_words_ids[..], p.min_new_tokens), (&[vec![4, 5]][..], 2));
        assert_eq!((&p.sequence_bias[..], p.forced_bos_token_id), (&[(vec![6], -0.5)][..], Some(8)));
        assert_eq!((&p.forced_eos_token_id[..], p.exponential_decay_length_penalty), (&[9][..], Some((15, 1.6))));
        assert_eq!((p.no_repeat_ngram_size, options.max_new_tokens), (3, 9));
    }

    #[test]
    fn an_older_config_gives_them_where_there_is_no_such_file() {
        let read = |json: Value| {
            let text = json.to_string();
            GenerateOptions::defaults_in_config(&Config::from_json(&text).unwrap(), &text)
        };
        let json = json!({
            "model_type": "gpt2", "vocab_size": 100, "eos_token_id": 7, "max_length": 20, "suppress_tokens": [1],
            "do_sample": true, "top_k": 40, "num_beams": 1, "task_specific_params": { "x": { "top_k": 3 } },
        });
        let (options, warnings) = read(json.clone());
        assert_eq!(warnings, Vec::<String>::new());
        let p = &options.sampling;
        assert_eq!((&p.suppress_tokens[..], p.do_sample, p.top_k), (&[1][..], true, 40));
        assert_eq!((options.eos_token_id.as_slice(), options.total_length), (&[7][..], TotalLength::default()));
        let mut json = json;
        (json["num_beams"], json["max_length"]) = (4.into(), 30.into());
        let (options, warnings) = read(json);
        assert_eq!(options.total_length.max, Some(30));
        assert_eq!(warnings, ["config.json: `num_beams` (4) is left out: this is not supported"]);
    }

    #[test]
    fn temperature_0_is_greedy_and_no_hindrance_to_a_draw() {
        let options = quiet(json!({ "do_sample": true, "temperature": 0 }));
        assert!(!options.sampling.do_sample);
        let Value::Object(given) = json!({ "do_sample": true }) else { unreachable!() };
        let options = options.with(&given, &config()).unwrap();
        assert!(options.sampling.do_sample && options.sampling.temperature == 1.0);
    }

    #[test]
    fn lengths_of_the_whole_text_count_the_prompt() {
        let length = |json: Value, n_prompt: usize| {
            let mut options = quiet(json);
            options.resolve_length(n_prompt);
            (options.max_new_tokens, options.sampling.min_new_tokens)
        };
        assert_eq!(length(json!({ "max_length": 20, "min_length": 10 }), 8), (12, 2));
        assert_eq!(length(json!({ "max_length": 20, "min_length": 10 }), 12), (8, 0));
        assert_eq!(length(json!({ "max_length": 20 }), 20), (50, 0), "it cannot be meant for such a prompt");
        let both = json!({ "max_length": 20, "max_new_tokens": 3, "min_length": 10, "min_new_tokens": 1 });
        assert_eq!(length(both, 8), (3, 1), "new tokens count first");
        let Value::Object(given) = json!({ "max_new_tokens": 5, "min_new_tokens": 0 }) else { unreachable!() };
        let mut options = quiet(json!({ "max_length": 20, "min_length": 10 })).with(&given, &config()).unwrap();
        options.resolve_length(8);
        assert_eq!((options.max_new_tokens, options.sampling.min_new_tokens), (5, 0));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_the_rest_holds() {
        for (json, name) in [
            (json!({ "top_p": 7 }), "top_p"),
            (json!({ "do_sample": false, "top_p": "0.9" }), "top_p"),
            (json!({ "top_k": -2 }), "top_k"),
            (json!({ "top_k": 1.5 }), "top_k"),
            (json!({ "temperature": -1 }), "temperature"),
            (json!({ "do_sample": "yes" }), "do_sample"),
            (json!({ "max_new_tokens": 0 }), "max_new_tokens"),
            (json!({ "max_length": "long" }), "max_length"),
            (json!({ "min_length": -1 }), "min_length"),
            (json!({ "eos_token_id": "</s>" }), "eos_token_id"),
            (json!({ "suppress_tokens": [1, 100] }), "suppress_tokens"),
            (json!({ "suppress_tokens": 3 }), "suppress_tokens"),
            (json!({ "bad_words_ids": [[-1], []] }), "bad_words_ids"),
            (json!({ "sequence_bias": [[[1], "x"]] }), "sequence_bias"),
            (json!({ "forced_eos_token_id": 100 }), "forced_eos_token_id"),
            (json!({ "exponential_decay_length_penalty": [1] }), "exponential_decay_length_penalty"),
            (json!({ "stop_strings": [""] }), "stop_strings"),
            (json!({ "num_beams": 4 }), "num_beams"),
            (json!({ "typical_p": 0.9 }), "typical_p"),
            (json!({ "watermarking_config": { "bias": 2 } }), "watermarking_config"),
        ] {
            let mut json = json;
            json["repetition_penalty"] = 1.5.into();
            let (options, warnings) = defaults(&json.to_string());
            assert!(!warnings.is_empty(), "{json}: no warning");
            for warning in &warnings {
                assert!(warning.starts_with(FILE) && warning.contains(&format!("`{name}`")), "{warning}");
            }
            options.sampling.validate().unwrap();
            assert_eq!(options.sampling.repetition_penalty, 1.5);
            assert!(options.sampling.suppress_tokens.iter().all(|&id| id == 1));
        }
        quiet(json!({ "num_beams": 1, "typical_p": 1.0, "penalty_alpha": 0, "max_time": null, "use_cache": true,
            "_from_model_config": true, "transformers_version": "5.23.0", "pad_token_id": -1, "length_penalty": 1.0,
            "something_else": { "of": "another program" } }));
    }

    #[test]
    fn a_file_that_is_no_object_is_left_out_whole() {
        for text in ["{\"top_k\": 40,}", "", "null", "[1]", "<html>", "\"x\""] {
            let (options, warnings) = defaults(text);
            assert_eq!(options, GenerateOptions::of_model(&config()));
            assert!(warnings.len() == 1 && warnings[0].contains(FILE), "{text}: {warnings:?}");
        }
    }

    #[test]
    fn windows_and_python_write_json_of_their_own() {
        let (options, warnings) =
            defaults("\u{feff}{\r\n\"top_p\": 0.5,\r\n\"x\": -Infinity, \"y\": \"\\\"NaN\"\r\n}\r\n");
        assert_eq!((options.sampling.top_p, warnings.len()), (0.5, 0));
        let (options, warnings) = defaults(r#"{"top_p": 0.5, "temperature": NaN, "min_p": Infinity}"#);
        assert_eq!((options.sampling.top_p, options.sampling.temperature, options.sampling.min_p), (0.5, 1.0, 0.0));
        assert!(
            warnings.len() == 2 && warnings[0].contains("temperature") && warnings[0].contains("NaN"),
            "{warnings:?}"
        );
    }
}
