//! `adapter_config.json`: what PEFT says of an adapter.

use serde_json::{Map, Value};

use crate::checkpoint::read_json;
use crate::error::{Error, Result, excerpt};

/// The file's name.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The largest rank that is taken.
const MAX_RANK: u64 = 256;

/// Fields that change nothing of what an adapter computes, whatever they say: how it was trained and how it came about,
/// and the choice of modules, which its tensors tell themselves. `fan_in_fan_out` is about the base model's weights; A and
/// B are stored alike for both.
const NO_MATTER: [&str; 17] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "peft_type",
];

/// Ways to begin the training that leave the base model's weights as they are. After the others, the adapter belongs to
/// weights that nobody has.
const NEUTRAL_BEGINNINGS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// What of the file changes the result.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(String, usize)>,
    alpha_pattern: Vec<(String, f64)>,
    is_rank_stabilised: bool,
    /// Ends of the names of modules that must have tensors; empty if the file does not list them.
    targets: Vec<String>,
}

impl LoraConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names a field that asks for something which is not plain LoRA, or is malformed.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = match read_json(CONFIG_FILE, text)? {
            Value::Object(fields) => fields,
            other => return Err(Error::file(CONFIG_FILE, "a JSON object", excerpt(&other.to_string()))),
        };
        if json.get("peft_type").and_then(Value::as_str) != Some("LORA") {
            return Err(wrong("peft_type", "\"LORA\"", json.get("peft_type")));
        }
        for (field, value) in &json {
            check_neutral(field, value)?;
        }
        let fields = Fields(&json);
        Ok(Self {
            rank: rank("r", json.get("r"))?,
            alpha: number("lora_alpha", json.get("lora_alpha"))?,
            rank_pattern: fields.pattern("rank_pattern", rank)?,
            alpha_pattern: fields.pattern("alpha_pattern", number)?,
            is_rank_stabilised: fields.is_set("use_rslora")?,
            targets: fields.targets(),
        })
    }

    /// The rank that a module should have.
    pub fn rank_of(&self, module: &str) -> usize {
        of_module(&self.rank_pattern, module).unwrap_or(self.rank)
    }

    /// s: α / r, or α / √r with `use_rslora` (Kalajdzievski 2023).
    pub fn scale_of(&self, module: &str) -> f32 {
        let alpha = of_module(&self.alpha_pattern, module).unwrap_or(self.alpha);
        let rank = self.rank_of(module) as f64;
        (alpha / if self.is_rank_stabilised { rank.sqrt() } else { rank }) as f32
    }

    /// Whether the file says that this module has an adapter.
    pub fn is_target(&self, module: &str) -> bool {
        self.targets.iter().any(|target| is_end_of(module, target))
    }
}

/// Whether a name ends with another, where a part of it begins.
fn is_end_of(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What a pattern says of a module. As in PEFT, the first key that fits counts.
fn of_module<T: Copy>(pattern: &[(String, T)], module: &str) -> Option<T> {
    pattern.iter().find(|(key, _)| is_end_of(module, key)).map(|(_, value)| *value)
}

fn wrong(field: &str, expected: &str, found: Option<&Value>) -> Error {
    let found = found.map_or("nothing".to_string(), |value| excerpt(&value.to_string()));
    Error::file(CONFIG_FILE, format!("`{field}`: {expected}"), found)
}

/// A field that would change the result and is not understood must say nothing.
fn check_neutral(field: &str, value: &Value) -> Result<()> {
    let is_neutral = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    match field {
        "r" | "lora_alpha" | "rank_pattern" | "alpha_pattern" | "use_rslora" => Ok(()),
        "bias" if value == "none" => Ok(()),
        "bias" => Err(wrong(field, "\"none\"", Some(value))),
        "init_lora_weights" => match value {
            Value::Null | Value::Bool(_) => Ok(()),
            Value::String(name) if NEUTRAL_BEGINNINGS.contains(&name.as_str()) => Ok(()),
            _ => Err(wrong(field, "a start that leaves the base model as it is", Some(value))),
        },
        _ if is_neutral || NO_MATTER.contains(&field) => Ok(()),
        _ => Err(wrong(field, "nothing, since only plain LoRA is supported", Some(value))),
    }
}

fn rank(field: &str, value: Option<&Value>) -> Result<usize> {
    let rank = value.and_then(Value::as_u64).filter(|rank| (1..=MAX_RANK).contains(rank));
    rank.map(|rank| rank as usize).ok_or_else(|| wrong(field, &format!("a whole number from 1 to {MAX_RANK}"), value))
}

fn number(field: &str, value: Option<&Value>) -> Result<f64> {
    value.and_then(Value::as_f64).ok_or_else(|| wrong(field, "a number", value))
}

/// The fields of the file.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn is_set(&self, field: &str) -> Result<bool> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(is_set)) => Ok(*is_set),
            found => Err(wrong(field, "true or false", found)),
        }
    }

    fn pattern<T>(&self, field: &str, read: impl Fn(&str, Option<&Value>) -> Result<T>) -> Result<Vec<(String, T)>> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(pattern)) => pattern
                .iter()
                .map(|(key, value)| Ok((checked_key(field, key)?, read(&format!("{field}: {key}"), Some(value))?)))
                .collect(),
            found => Err(wrong(field, "an object", found)),
        }
    }

    /// The list of `target_modules`. A single string is a pattern for whole names, which the tensors have to speak for.
    fn targets(&self) -> Vec<String> {
        // what else says which modules have an adapter
        let others = ["exclude_modules", "layers_to_transform"];
        if others.iter().any(|field| self.0.get(*field).is_some_and(|value| !value.is_null())) {
            return Vec::new();
        }
        let list = self.0.get("target_modules").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
    }
}

/// A key of a pattern may be a regular expression, of which only plain names, and a `^` in front, are understood.
fn checked_key(field: &str, key: &str) -> Result<String> {
    let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if is_plain {
        return Ok(key.to_string());
    }
    Err(Error::file(CONFIG_FILE, format!("`{field}`: names of modules"), format!("the pattern \"{}\"", excerpt(key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Result<LoraConfig> {
        LoraConfig::from_json(&format!(r#"{{"peft_type":"LORA","r":8,"lora_alpha":16{fields}}}"#))
    }

    #[test]
    fn ranks_and_scales_follow_the_patterns() {
        let plain = read("").unwrap();
        assert_eq!((plain.rank_of("h.0.attn.c_attn"), plain.scale_of("h.0.attn.c_attn")), (8, 2.0));
        let patterns = r#","rank_pattern":{"mlp.c_fc":4},"alpha_pattern":{"h.0.attn.c_attn":24}"#;
        let config = read(patterns).unwrap();
        assert_eq!((config.rank_of("h.1.mlp.c_fc"), config.scale_of("h.1.mlp.c_fc")), (4, 4.0));
        assert_eq!((config.rank_of("h.10.attn.c_attn"), config.scale_of("h.10.attn.c_attn")), (8, 2.0));
        assert_eq!(config.scale_of("h.0.attn.c_attn"), 3.0);
        assert_eq!(config.rank_of("h.0.xmlp.c_fc"), 8, "the end of a name begins with one of its parts");
        let stabilised = LoraConfig::from_json(r#"{"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true}"#);
        assert_eq!(stabilised.unwrap().scale_of("h.0.attn.c_attn"), 4.0);
    }

    #[test]
    fn what_changes_the_result_and_is_not_understood_is_refused_by_its_name() {
        for (fields, name) in [
            (r#","use_dora":true"#, "use_dora"),
            (r#","modules_to_save":["lm_head"]"#, "modules_to_save"),
            (r#","bias":"all""#, "bias"),
            (r#","bias":"lora_only""#, "bias"),
            (r#","lora_bias":true"#, "lora_bias"),
            (r#","layer_replication":[[0,4],[2,5]]"#, "layer_replication"),
            (r#","trainable_token_indices":[1]"#, "trainable_token_indices"),
            (r#","target_parameters":["a"]"#, "target_parameters"),
            (r#","alora_invocation_tokens":[1,2]"#, "alora_invocation_tokens"),
            (r#","use_qalora":true"#, "use_qalora"),
            (r#","use_bdlora":{"a":1}"#, "use_bdlora"),
            (r#","arrow_config":{"a":1}"#, "arrow_config"),
            (r#","init_lora_weights":"pissa_niter_16""#, "init_lora_weights"),
            (r#","something_new":3"#, "something_new"),
            (r#","use_rslora":"yes""#, "use_rslora"),
            (r#","rank_pattern":{"mlp.c_fc":0}"#, "rank_pattern: mlp.c_fc"),
            (r#","alpha_pattern":{".*c_fc":2}"#, "alpha_pattern"),
            (r#","r":257"#, "`r`"),
            (r#","r":0"#, "`r`"),
            (r#","lora_alpha":"16""#, "lora_alpha"),
        ] {
            let error = read(fields).unwrap_err();
            assert_eq!(error.code(), "checkpoint");
            assert!(error.to_string().contains(name), "{error}");
        }
        for json in [r#"{"r":8,"lora_alpha":16}"#, r#"{"peft_type":"IA3"}"#, "[]", "not json"] {
            assert_eq!(LoraConfig::from_json(json).unwrap_err().code(), "checkpoint");
        }
    }

    #[test]
    fn what_changes_nothing_may_say_anything() {
        let fields = r#","use_dora":false,"modules_to_save":null,"lora_dropout":0.1,"loftq_config":{},"bias":"none",
            "fan_in_fan_out":true,"init_lora_weights":"gaussian","task_type":"CAUSAL_LM","target_modules":["c_fc"]"#;
        let config = read(fields).unwrap();
        assert!(config.is_target("h.3.mlp.c_fc"));
        assert!(!config.is_target("h.3.attn.c_attn"));
    }
}
