//! What is done to a text before the model takes it.

use serde_json::Value;

/// The steps of a tokenizer.
#[cfg_attr(not(feature = "full"), allow(dead_code))] // a build that runs GPT-2's only does not ask what the others are
pub(super) enum Steps {
    /// GPT-2's regular expression, then the byte alphabet.
    Gpt2 { add_prefix_space: bool },
    /// BERT's.
    Bert { do_lower_case: bool, strip_accents: Option<bool>, tokenize_chinese_chars: bool },
    /// Those of a tokenizer.json.
    Written { normalizer: Option<Value>, pre_tokenizer: Option<Value> },
}

impl Steps {
    /// Those that a tokenizer.json says, which may be GPT-2's.
    pub fn written(normalizer: Option<Value>, pre_tokenizer: Option<Value>) -> Self {
        let gpt2s = |step: &Value| {
            let has_offsets = step["trim_offsets"].is_boolean(); // without them the crate refuses the file
            let is_gpt2s = step["type"] == "ByteLevel" && step.get("use_regex").is_none_or(|flag| *flag == true);
            step["add_prefix_space"].as_bool().filter(|_| is_gpt2s && has_offsets)
        };
        match (&normalizer, pre_tokenizer.as_ref().and_then(gpt2s)) {
            (None | Some(Value::Null), Some(add_prefix_space)) => Self::Gpt2 { add_prefix_space },
            _ => Self::Written { normalizer, pre_tokenizer },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gpt2s_steps_are_known_when_a_file_writes_them() {
        let step = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
        let is_gpt2s = |normalizer: Option<Value>, step: Value| {
            matches!(Steps::written(normalizer, Some(step)), Steps::Gpt2 { add_prefix_space: true })
        };
        assert!(is_gpt2s(None, step.clone()) && is_gpt2s(Some(Value::Null), step.clone()));
        assert!(!is_gpt2s(Some(json!({"type": "NFC"})), step.clone()));
        for (name, value) in [("use_regex", json!(false)), ("type", json!("Split")), ("trim_offsets", Value::Null)] {
            let mut other = step.clone();
            other[name] = value;
            assert!(!is_gpt2s(None, other), "{name}");
        }
    }
}
