//! `model.safetensors.index.json`, `pytorch_model.bin.index.json`: which file of a sharded checkpoint holds which tensor.

use serde_json::Value;

use super::json::read_json;
use crate::error::{Error, Result, excerpt};

/// The files that hold a model's weights, in the order in which transformers looks for them. The indexes name others.
pub const WEIGHT_FILES: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Names of the shards, each once, sorted. `file` is the index's own name.
///
/// # Errors
/// [`Error::Checkpoint`] for JSON of another form, no shard at all, or a shard outside the checkpoint's own folder.
pub fn shard_names(file: &str, json: &str) -> Result<Vec<String>> {
    let value = read_json(file, json)?;
    let Some(map) = value.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::file(file, "an object `weight_map`", excerpt(&value.to_string())));
    };
    let mut shards = Vec::with_capacity(map.len());
    for (tensor, shard) in map {
        match shard.as_str() {
            Some(name) if is_plain_file_name(name) => shards.push(name.to_string()),
            _ => {
                let expected = "the name of a weights file (.safetensors, .bin, .pt or .pth) beside the index";
                return Err(Error::tensor(file, excerpt(tensor), expected, excerpt(&shard.to_string())));
            }
        }
    }
    shards.sort();
    shards.dedup();
    if shards.is_empty() {
        return Err(Error::file(file, "at least one tensor in `weight_map`", "none"));
    }
    Ok(shards)
}

/// An index must not send us to another folder or site. No file system has longer names.
fn is_plain_file_name(name: &str) -> bool {
    const MAX_BYTES: usize = 255;
    const ENDINGS: [&str; 4] = [".safetensors", ".bin", ".pt", ".pth"];
    name.len() <= MAX_BYTES
        && ENDINGS.iter().any(|ending| name.ends_with(ending))
        && !name.contains(['/', '\\', ':', '?', '#', '%'])
        && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "model.safetensors.index.json";

    #[test]
    fn names_each_shard_once() {
        let json = r#"{"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#;
        assert_eq!(shard_names(FILE, json).unwrap(), ["m-1.safetensors", "m-2.safetensors"]);
        let json = "\u{feff}{\"metadata\":{\"total_size\":NaN},\"weight_map\":{\"a\":\"pytorch_model-1.bin\"}}";
        assert_eq!(shard_names("pytorch_model.bin.index.json", json).unwrap(), ["pytorch_model-1.bin"]);
    }

    #[test]
    fn stays_in_its_folder() {
        for shard in ["../x.safetensors", "https://e/x.bin", "x.exe", ".safetensors", "a%2fb.safetensors"] {
            let error = shard_names(FILE, &format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#)).unwrap_err();
            assert!(error.to_string().contains(shard), "{error}");
        }
        assert!(shard_names(FILE, r#"{"weight_map":{}}"#).is_err());
        assert!(shard_names(FILE, r#"{"weight_map":{"a":1}}"#).is_err());
        assert!(shard_names(FILE, "[]").is_err());
    }
}
