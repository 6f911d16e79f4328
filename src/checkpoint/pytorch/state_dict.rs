//! A pickle's value as a state dict: tensors under their names.

use std::collections::HashMap;

use super::pickle::{Pickle, Place, Value};
use super::view::{Storage, Tensor};
use crate::checkpoint::tensor_file::ListedTensor;
use crate::error::{Error, Result, excerpt};

/// Under which names people save a state dict beside other things.
const NESTED: [&str; 6] = ["state_dict", "model_state_dict", "model", "module", "net", "weights"];

/// No GPT-2 has a longer name or as many tensors. One name in the pickle can stand for many, and each gets a copy.
const MAX_NAME_BYTES: usize = 512;
const MAX_TENSORS: usize = 1 << 16;

/// Tensors by name, and the storages that they are views of.
#[derive(Debug)]
pub(super) struct StateDict {
    pub tensors: Vec<(String, Tensor)>,
    pub storages: Vec<Storage>,
    pub warnings: Vec<String>,
}

impl StateDict {
    /// The state dict that a pickle's value is or, if there are no tensors in it, the one in it under one of the usual
    /// names.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a value that is neither.
    pub fn new(pickle: Pickle, top: Place, file: &str) -> Result<Self> {
        let mut warnings = Vec::new();
        let expected = "a state dict, tensors by name";
        let Value::Dict(mut entries) = pickle.values[top].clone() else {
            return Err(Error::file(file, expected, kind(&pickle.values[top])));
        };
        let is_tensor = |entries: &[(Place, Place)]| {
            entries.iter().any(|&(_, value)| matches!(pickle.values[value], Value::Tensor(_)))
        };
        let mut path = String::new();
        // an optimiser's state and a model's, and the model's perhaps of a wrapper: two steps, and no endless ones
        for _ in 0..2 {
            if is_tensor(&entries) {
                break;
            }
            let named = |name: &&str| entries.iter().find(|&&(key, _)| pickle.text(key) == Some(name));
            let Some((name, &(_, value))) = NESTED.iter().find_map(|name| named(name).map(|entry| (name, entry)))
            else {
                break;
            };
            let Value::Dict(inner) = &pickle.values[value] else { break };
            path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            entries = inner.clone();
        }
        if !is_tensor(&entries) {
            let keys: Vec<_> = entries.iter().filter_map(|&(key, _)| pickle.text(key)).take(5).map(excerpt).collect();
            let found = match keys.is_empty() {
                true => "an empty dictionary".to_string(),
                false => format!("a dictionary without tensors, of {}", keys.join(", ")),
            };
            return Err(Error::file(file, expected, found));
        }
        if !path.is_empty() {
            warnings.push(format!("{file}: the weights are taken from `{path}` in it, and the rest is left out"));
        }

        let (mut tensors, mut others) = (Vec::with_capacity(entries.len()), Vec::new());
        if entries.len() > MAX_TENSORS {
            let found = entries.len().to_string();
            return Err(Error::file(file, format!("a state dict of at most {MAX_TENSORS} tensors"), found));
        }
        for (key, value) in entries {
            match (pickle.text(key), &pickle.values[value]) {
                (Some(name), _) if name.len() > MAX_NAME_BYTES => {
                    let expected = format!("names of at most {MAX_NAME_BYTES} bytes");
                    return Err(Error::file(file, expected, format!("{} bytes: {}", name.len(), excerpt(name))));
                }
                (Some(name), Value::Tensor(tensor)) => tensors.push((name.to_string(), tensor.clone())),
                (Some(name), _) if others.len() < 5 => others.push(excerpt(name)),
                (Some(_), _) => {}
                (None, _) => return Err(Error::file(file, "names of tensors", "a key that is no text")),
            }
        }
        if !others.is_empty() {
            warnings.push(format!("{file}: left out, since they are no tensors: {}", others.join(", ")));
        }
        Ok(Self { tensors, storages: pickle.storages, warnings })
    }

    /// What the model is told of them.
    pub fn listed(&self) -> Vec<ListedTensor> {
        let mut first = HashMap::new();
        let mut listed = Vec::with_capacity(self.tensors.len());
        for (i, (name, tensor)) in self.tensors.iter().enumerate() {
            let view = (tensor.storage, tensor.offset, &tensor.shape, &tensor.strides, tensor.dtype.name);
            let first = *first.entry(view).or_insert(i);
            listed.push(ListedTensor {
                name: name.clone(),
                dtype: tensor.dtype.name.to_string(),
                shape: tensor.shape.clone(),
                same_as: (first != i).then_some(first),
            });
        }
        listed
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Tensor(_) => "one tensor",
        Value::List(_) | Value::Tuple(_) => "a list",
        Value::Text(_) => "a text",
        _ => "another value",
    }
}
