//! `model.safetensors.index.json`: which file of a sharded checkpoint holds which tensor.

use serde_json::Value;

use crate::error::{Error, Result, excerpt};

/// The index file's name.
pub const FILE: &str = "model.safetensors.index.json";

/// Names of the shards, each once, sorted.
///
/// # Errors
/// [`Error::Checkpoint`] for JSON of another form, no shard at all, or a shard outside the checkpoint's own folder.
pub fn shard_names(json: &str) -> Result<Vec<String>> {
    let value: Value = serde_json::from_str(json).map_err(|e| Error::file(FILE, "JSON", e.to_string()))?;
    let Some(map) = value.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::file(FILE, "an object `weight_map`", excerpt(&value.to_string())));
    };
    let mut shards = Vec::with_capacity(map.len());
    for (tensor, shard) in map {
        match shard.as_str() {
            Some(name) if is_plain_file_name(name) => shards.push(name.to_string()),
            _ => {
                let expected = "the name of a .safetensors file beside the index";
                return Err(Error::tensor(FILE, excerpt(tensor), expected, excerpt(&shard.to_string())));
            }
        }
    }
    shards.sort();
    shards.dedup();
    if shards.is_empty() {
        return Err(Error::file(FILE, "at least one tensor in `weight_map`", "none"));
    }
    Ok(shards)
}

/// An index must not send us to another folder or site. No file system has longer names.
fn is_plain_file_name(name: &str) -> bool {
    const MAX_BYTES: usize = 255;
    name.len() <= MAX_BYTES
        && name.ends_with(".safetensors")
        && !name.contains(['/', '\\', ':', '?', '#', '%'])
        && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_shard_once() {
        let json = r#"{"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#;
        assert_eq!(shard_names(json).unwrap(), ["m-1.safetensors", "m-2.safetensors"]);
    }

    #[test]
    fn stays_in_its_folder() {
        for shard in ["../x.safetensors", "https://e/x.safetensors", "x.bin", ".safetensors", "a%2fb.safetensors"] {
            assert!(shard_names(&format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#)).is_err(), "{shard}");
        }
        assert!(shard_names(r#"{"weight_map":{}}"#).is_err());
        assert!(shard_names(r#"{"weight_map":{"a":1}}"#).is_err());
        assert!(shard_names("[]").is_err());
    }
}
