//! `config.json` of a GPT-2 checkpoint: every field that changes the result, read and checked.

pub use gpt2_kernels::Activation;
use gpt2_kernels::Dims;
use serde_json::{Map, Value};

use super::json::{kind, read_json, whole_number};
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
    /// Reads and checks the text of a `config.json`, and gives what [`Self::read`] warns of to nobody.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn from_json(text: &str) -> Result<Self> {
        Ok(Self::read(text)?.0)
    }

    /// Reads and checks the text of a `config.json`. → the configuration, and what the user should know of it
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is no such JSON or contradicts itself;
    /// [`Error::UnsupportedModel`], naming the field, for a model that is not a GPT-2 this crate computes.
    pub fn read(text: &str) -> Result<(Self, Vec<String>)> {
        let mut warnings = Vec::new();
        let value = read_json(FILE, text)?;
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
        // The files of 2019 have both, with the same number. `n_positions` is how many rows `wpe` has.
        if let Some(n_ctx) = json.get("n_ctx").filter(|_| !json.contains_key("n_positions")).cloned() {
            warnings.push(format!("{FILE}: there is no `n_positions`; `n_ctx` ({n_ctx}) is taken instead"));
            json.insert("n_positions".into(), n_ctx);
        }
        // GPT-2's end of text, unless the file says otherwise; null says that there is none
        for name in ["bos_token_id", "eos_token_id"] {
            json.entry(name).or_insert(50256.into());
        }

        check_model_type(&json)?;
        for (field, supported) in [("add_cross_attention", false), ("is_encoder_decoder", false)] {
            if bool_field(&json, field, supported)? != supported {
                return Err(Error::unsupported(FILE, field, supported.to_string(), (!supported).to_string()));
            }
        }
        if let Some(quantization) = json.get("quantization_config").filter(|v| !v.is_null()) {
            let expected = "no such field (the checkpoint before it was quantised: F32, F16, BF16 or F64 weights)";
            return Err(Error::unsupported(FILE, "quantization_config", expected, quantization_method(quantization)));
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
        let vocab_size = dim_field(&json, "vocab_size", 50257)?;
        let ids = |field| -> Result<Vec<u32>> {
            // No token can match an id beyond the vocabulary, as the defaults of a config for a smaller one have it:
            // it is the same as none.
            Ok(token_ids(&json, field, FILE)?.into_iter().filter(|id| (*id as usize) < vocab_size).collect())
        };
        let config = Config {
            vocab_size,
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
            bos_token_id: ids("bos_token_id")?.into_iter().next(),
            eos_token_ids: ids("eos_token_id")?,
        };
        Ok((config, warnings))
    }

    /// The same model with a head of its own: what a checkpoint is whose `lm_head.weight` differs from `wte.weight`
    /// though its configuration ties them ([`Error::UntiedHead`]).
    pub fn untied(&self) -> Self {
        Self { tie_word_embeddings: false, ..self.clone() }
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

/// Token ids that a JSON file gives as a number, a list of numbers or null. A negative one, which some programs write
/// for "none", and one beyond all vocabularies are left out.
///
/// # Errors
/// [`Error::Checkpoint`] for anything else.
pub fn token_ids(json: &Map<String, Value>, field: &str, file: &str) -> Result<Vec<u32>> {
    let ids = match json.get(field) {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(ids)) => ids,
        Some(one) => std::slice::from_ref(one),
    };
    let mut known = Vec::with_capacity(ids.len());
    for id in ids.iter().filter(|id| !id.is_null()) {
        let number = whole_number(id).ok_or_else(|| {
            Error::file(file, format!("`{field}` to be a token id, a list of them or null"), id.to_string())
        })?;
        known.extend(u32::try_from(number));
    }
    Ok(known)
}

/// Whether the file says that this is a GPT-2. Before there was `model_type`, only the name of the class did.
fn check_model_type(json: &Map<String, Value>) -> Result<()> {
    match json.get("model_type") {
        Some(Value::String(name)) if name == "gpt2" => Ok(()),
        None | Some(Value::Null) => {
            let architectures = json.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            match architectures.iter().filter_map(Value::as_str).any(|class| class.starts_with("GPT2")) {
                true => Ok(()),
                false if architectures.is_empty() => {
                    Err(Error::unsupported(FILE, "model_type", "\"gpt2\"", "neither it nor `architectures`"))
                }
                false => {
                    let found = Value::from(architectures).to_string();
                    Err(Error::unsupported(
                        FILE,
                        "architectures",
                        "a class that begins with GPT2, or a `model_type`",
                        found,
                    ))
                }
            }
        }
        Some(other) => Err(Error::unsupported(FILE, "model_type", "\"gpt2\"", other.to_string())),
    }
}

/// The name of what quantised a checkpoint, as far as its file tells.
fn quantization_method(quantization: &Value) -> String {
    let is_set = |field| quantization.get(field).and_then(Value::as_bool) == Some(true);
    match quantization.get("quant_method") {
        Some(Value::String(method)) => format!("the method {method}"),
        Some(other) => other.to_string(),
        None if is_set("load_in_8bit") || is_set("load_in_4bit") => "the method bitsandbytes".to_string(),
        None => format!("{} that names no method", kind(quantization)),
    }
}

/// The nonlinearity. transformers has several names for one formula, computed in another order.
fn activation(json: &Map<String, Value>) -> Result<Activation> {
    const SUPPORTED: &str = "gelu_new, gelu, quick_gelu, relu, silu, tanh or one of their other names";
    match json.get("activation_function") {
        None => Ok(Activation::GeluNew),
        Some(Value::String(name)) => match name.as_str() {
            "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
                Ok(Activation::GeluNew)
            }
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            "tanh" => Ok(Activation::Tanh),
            "quick_gelu" => Ok(Activation::QuickGelu),
            other => Err(Error::unsupported(FILE, "activation_function", SUPPORTED, format!("\"{other}\""))),
        },
        Some(other) => Err(Error::unsupported(FILE, "activation_function", SUPPORTED, other.to_string())),
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
    whole_number(v)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| (1..=max).contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| Error::file(FILE, format!("`{field}` to be a whole number from 1 to {max}"), v.to_string()))
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

    #[test]
    fn ids_that_say_none() {
        let c = read(r#","bos_token_id":-1,"eos_token_id":[-1,null,2.0,99999999999]"#).unwrap();
        assert_eq!((c.bos_token_id, c.eos_token_ids), (None, vec![2]));
        let c = read(r#","bos_token_id":null,"eos_token_id":-1"#).unwrap();
        assert_eq!((c.bos_token_id, c.eos_token_ids), (None, vec![]));
    }

    #[test]
    fn every_name_of_an_activation_is_one_of_ours_or_is_refused() {
        for (names, activation) in [
            ("gelu_new gelu_fast gelu_accurate gelu_pytorch_tanh gelu_python_tanh", Activation::GeluNew),
            ("gelu gelu_python", Activation::Gelu),
            ("relu", Activation::Relu),
            ("silu swish", Activation::Silu),
            ("tanh", Activation::Tanh),
            ("quick_gelu", Activation::QuickGelu),
        ] {
            for name in names.split(' ') {
                let c = read(&format!(r#","activation_function":"{name}""#)).unwrap();
                assert_eq!(c.activation_function, activation, "{name}");
            }
        }
        for name in "gelu_10 hardswish laplace leaky_relu linear mish relu2 relu6 sigmoid prelu xielu".split(' ') {
            let error = read(&format!(r#","activation_function":"{name}""#)).unwrap_err();
            assert!(matches!(&error, Error::UnsupportedModel { .. }) && error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn files_of_2019_name_the_class_alone() {
        for class in ["GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel"] {
            let json = format!(r#"{{"architectures":["{class}"],"n_ctx":512,"n_positions":1024}}"#);
            assert_eq!(Config::from_json(&json).unwrap().n_positions, 1024, "{class}");
        }
        let (c, warnings) = Config::read(r#"{"model_type":"gpt2","n_ctx":512}"#).unwrap();
        assert!(c.n_positions == 512 && warnings[0].contains("n_ctx"), "{warnings:?}");
        for (json, field) in [
            (r#"{"architectures":["GPTNeoForCausalLM"]}"#, "GPTNeo"),
            (r#"{"model_type":"gpt_neo","architectures":["GPT2LMHeadModel"]}"#, "gpt_neo"),
            ("{}", "model_type"),
        ] {
            let error = Config::from_json(json).unwrap_err();
            assert!(matches!(&error, Error::UnsupportedModel { .. }) && error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn what_python_writes_is_read() {
        let c = read(r#","summary_x":Infinity,"y":[NaN,-Infinity],"n_inner":24.0"#).unwrap();
        assert_eq!(c.n_inner, 24);
        let error = read(r#","layer_norm_epsilon":NaN"#).unwrap_err().to_string();
        assert!(error.contains("layer_norm_epsilon") && error.contains("NaN"), "{error}");
        let with_mark = "\u{feff}{\r\n\"model_type\": \"gpt2\"\r\n}\r\n";
        assert_eq!(Config::from_json(with_mark), Config::from_json(r#"{"model_type":"gpt2"}"#));
        assert!(!c.untied().tie_word_embeddings);
    }

    #[test]
    fn a_quantised_checkpoint_names_its_method() {
        for (json, word) in [(r#"{"quant_method":"gptq"}"#, "gptq"), (r#"{"load_in_8bit":true}"#, "bitsandbytes")] {
            let error = read(&format!(r#","quantization_config":{json}"#)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
