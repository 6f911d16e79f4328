//! `config.json` of a GPT-2 checkpoint: every field that changes the result, read and checked.

pub use gpt2_kernels::Activation;
use gpt2_kernels::Dims;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

const FILE: &str = "config.json";
/// No GPT-2 comes near these; a hostile file must not make us allocate by its word.
const MAX_DIM: u64 = 1 << 20;
const MAX_LAYERS: u64 = 1024;

/// The hyperparameters of one GPT-2, under their names in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// V, the vocabulary's size.
    pub vocab_size: usize,
    /// The context window, tokens: how many rows `wpe` has.
    pub n_positions: usize,
    /// C, the width of the residual stream.
    pub n_embd: usize,
    /// How many blocks.
    pub n_layer: usize,
    /// H, attention heads per block; divides `n_embd`.
    pub n_head: usize,
    /// Width of the MLP's hidden layer: `n_inner`, or 4 C where the file says null.
    pub n_inner: usize,
    /// The MLP's nonlinearity.
    pub activation_function: Activation,
    /// ε of every LayerNorm.
    pub layer_norm_epsilon: f64,
    /// Whether scores are divided by √D.
    pub scale_attn_weights: bool,
    /// Whether scores of block i are divided by i + 1 as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether the head is `wte` itself, or `lm_head.weight` of its own.
    pub tie_word_embeddings: bool,
    /// What an empty prompt starts from.
    pub bos_token_id: Option<u32>,
    /// What ends a text; the file may name several.
    pub eos_token_ids: Vec<u32>,
}

impl Config {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is no such JSON or contradicts itself;
    /// [`Error::UnsupportedModel`], naming the field, for a model that is not a GPT-2 this crate computes.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error::file(FILE, "JSON", e.to_string()))?;
        let Value::Object(mut json) = value else {
            return Err(Error::file(FILE, "a JSON object", kind(&value)));
        };

        // the names that transformers maps onto GPT-2's own, and which win there
        const ALIASES: [(&str, &str); 4] = [
            ("hidden_size", "n_embd"),
            ("max_position_embeddings", "n_positions"),
            ("num_attention_heads", "n_head"),
            ("num_hidden_layers", "n_layer"),
        ];
        for (alias, name) in ALIASES {
            if let Some(value) = json.get(alias).cloned() {
                json.insert(name.into(), value);
            }
        }
        // GPT-2's end of text, unless the file says otherwise; null says that there is none
        for name in ["bos_token_id", "eos_token_id"] {
            json.entry(name).or_insert(50256.into());
        }

        match json.get("model_type").and_then(Value::as_str) {
            Some("gpt2") => {}
            Some(other) => return Err(Error::unsupported("model_type", "\"gpt2\"", format!("\"{other}\""))),
            None => return Err(Error::unsupported("model_type", "\"gpt2\"", "no such field")),
        }
        for (field, supported) in [("add_cross_attention", false), ("is_encoder_decoder", false)] {
            if bool_field(&json, field, supported)? != supported {
                return Err(Error::unsupported(field, supported.to_string(), (!supported).to_string()));
            }
        }
        if let Some(quantization) = json.get("quantization_config").filter(|v| !v.is_null()) {
            let method = quantization.get("quant_method").map_or_else(|| kind(quantization), ToString::to_string);
            return Err(Error::unsupported("quantization_config", "no such field (F32, F16 or BF16 weights)", method));
        }

        let n_embd = dim_field(&json, "n_embd", 768)?;
        let n_head = dim_field(&json, "n_head", 12)?;
        if n_embd % n_head != 0 {
            return Err(Error::file(
                FILE,
                format!("`n_embd` to be a multiple of `n_head` ({n_head})"),
                n_embd.to_string(),
            ));
        }
        let n_inner = match json.get("n_inner") {
            None | Some(Value::Null) => 4 * n_embd,
            Some(_) => dim_field(&json, "n_inner", 0)?,
        };
        let config = Config {
            vocab_size: dim_field(&json, "vocab_size", 50257)?,
            n_positions: dim_field(&json, "n_positions", 1024)?,
            n_embd,
            n_layer: whole_field(&json, "n_layer", 12, MAX_LAYERS)?,
            n_head,
            n_inner,
            activation_function: activation(&json)?,
            layer_norm_epsilon: epsilon(&json)?,
            scale_attn_weights: bool_field(&json, "scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: bool_field(&json, "scale_attn_by_inverse_layer_idx", false)?,
            tie_word_embeddings: bool_field(&json, "tie_word_embeddings", true)?,
            // Ids beyond the vocabulary occur in the wild (the defaults of a config for a smaller
            // vocabulary); no token can match them, so they are the same as none.
            bos_token_id: token_ids(&json, "bos_token_id", FILE)?.into_iter().next(),
            eos_token_ids: token_ids(&json, "eos_token_id", FILE)?,
        };
        let in_vocab = |id: &u32| (*id as usize) < config.vocab_size;
        Ok(Config {
            bos_token_id: config.bos_token_id.filter(in_vocab),
            eos_token_ids: config.eos_token_ids.iter().copied().filter(in_vocab).collect(),
            ..config
        })
    }

    /// The part of it that the packed weights and their engines need.
    pub fn dims(&self) -> Dims {
        Dims {
            vocab_size: self.vocab_size,
            n_positions: self.n_positions,
            n_embd: self.n_embd,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_inner: self.n_inner,
            activation: self.activation_function,
            layer_norm_epsilon: self.layer_norm_epsilon as f32,
            scale_attn_weights: self.scale_attn_weights,
            scale_attn_by_inverse_layer_idx: self.scale_attn_by_inverse_layer_idx,
            tie_word_embeddings: self.tie_word_embeddings,
        }
    }

    /// D, the width of one head: C / H.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// What the scores of block `layer` are multiplied by before the softmax.
    pub fn attn_scale(&self, layer: usize) -> f64 {
        let by_width = if self.scale_attn_weights { (self.head_dim() as f64).sqrt() } else { 1.0 };
        let by_layer = if self.scale_attn_by_inverse_layer_idx { (layer + 1) as f64 } else { 1.0 };
        1.0 / (by_width * by_layer)
    }
}

/// Token ids that a JSON file gives as a number, a list of numbers or null.
///
/// # Errors
/// [`Error::Checkpoint`] for anything else.
pub fn token_ids(json: &Map<String, Value>, field: &str, file: &str) -> Result<Vec<u32>> {
    let wrong =
        |v: &Value| Error::file(file, format!("`{field}` to be a token id, a list of them or null"), v.to_string());
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| wrong(v));
    match json.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

fn activation(json: &Map<String, Value>) -> Result<Activation> {
    const SUPPORTED: &str = "gelu_new, gelu, relu, silu or tanh";
    match json.get("activation_function") {
        None => Ok(Activation::GeluNew),
        Some(Value::String(name)) => match name.as_str() {
            "gelu_new" => Ok(Activation::GeluNew),
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            "silu" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            other => Err(Error::unsupported("activation_function", SUPPORTED, format!("\"{other}\""))),
        },
        Some(other) => Err(Error::unsupported("activation_function", SUPPORTED, other.to_string())),
    }
}

fn epsilon(json: &Map<String, Value>) -> Result<f64> {
    match json.get("layer_norm_epsilon") {
        None => Ok(1e-5),
        Some(v) => v
            .as_f64()
            .filter(|e| e.is_finite() && *e >= 0.0)
            .ok_or_else(|| Error::file(FILE, "`layer_norm_epsilon` to be a number of at least 0", v.to_string())),
    }
}

fn bool_field(json: &Map<String, Value>, field: &str, default: bool) -> Result<bool> {
    match json.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(b)) => Ok(*b),
        Some(v) => Err(Error::file(FILE, format!("`{field}` to be true or false"), v.to_string())),
    }
}

fn dim_field(json: &Map<String, Value>, field: &str, default: usize) -> Result<usize> {
    whole_field(json, field, default, MAX_DIM)
}

fn whole_field(json: &Map<String, Value>, field: &str, default: usize, max: u64) -> Result<usize> {
    let Some(v) = json.get(field) else { return Ok(default) };
    v.as_u64()
        .filter(|n| (1..=max).contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| Error::file(FILE, format!("`{field}` to be a whole number from 1 to {max}"), v.to_string()))
}

fn kind(v: &Value) -> String {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &str) -> Result<Config> {
        Config::from_json(&format!(
            r#"{{"model_type":"gpt2","vocab_size":10,"n_positions":8,"n_embd":6,"n_head":2,"n_layer":1{extra}}}"#
        ))
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let c = Config::from_json(r#"{"model_type":"gpt2"}"#).unwrap();
        assert_eq!(
            (c.vocab_size, c.n_positions, c.n_embd, c.n_layer, c.n_head, c.n_inner),
            (50257, 1024, 768, 12, 12, 3072)
        );
        assert_eq!((c.bos_token_id, c.eos_token_ids.as_slice()), (Some(50256), &[50256][..]));
        assert!(c.tie_word_embeddings && c.scale_attn_weights && !c.scale_attn_by_inverse_layer_idx);
    }

    #[test]
    fn transformers_other_names_are_understood() {
        let c = read(r#","num_attention_heads":3,"hidden_size":12,"num_hidden_layers":2,"max_position_embeddings":5"#)
            .unwrap();
        assert_eq!((c.n_head, c.n_embd, c.n_layer, c.n_positions), (3, 12, 2, 5));
    }

    #[test]
    fn every_unsupported_field_is_named() {
        for (extra, field) in [
            (r#","activation_function":"swish2""#, "activation_function"),
            (r#","add_cross_attention":true"#, "add_cross_attention"),
            (r#","quantization_config":{"quant_method":"gptq"}"#, "quantization_config"),
        ] {
            match read(extra) {
                Err(Error::UnsupportedModel { field: f, .. }) => assert_eq!(f, field),
                other => panic!("{field}: {other:?}"),
            }
        }
        assert!(
            matches!(Config::from_json(r#"{"model_type":"llama"}"#), Err(Error::UnsupportedModel { field, .. }) if field == "model_type")
        );
    }

    #[test]
    fn malformed_values_are_named() {
        for extra in [
            r#","n_inner":-1"#,
            r#","n_inner":1e99"#,
            r#","layer_norm_epsilon":"x""#,
            r#","scale_attn_weights":3"#,
            r#","eos_token_id":"x""#,
        ] {
            let error = read(extra).unwrap_err();
            let field = extra.split('"').nth(1).unwrap();
            assert!(matches!(&error, Error::Checkpoint { .. }) && error.to_string().contains(field), "{error}");
        }
        assert!(Config::from_json("[1]").unwrap_err().to_string().contains("a list"));
        assert!(
            Config::from_json(r#"{"model_type":"gpt2","n_embd":7,"n_head":2}"#)
                .unwrap_err()
                .to_string()
                .contains("n_head")
        );
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_none() {
        let c = read(r#","bos_token_id":50256,"eos_token_id":[3,50256]"#).unwrap();
        assert_eq!((c.bos_token_id, c.eos_token_ids), (None, vec![3]));
    }
}
