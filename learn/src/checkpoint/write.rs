//! Writes a model as a folder in the hub's layout, which transformers and the page load.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::read::Checkpoint;
use crate::layout::Layout;
use crate::{Error, Result};

/// How the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// Four bytes a weight.
    F32,
    /// Two bytes a weight.
    F16,
}

/// Writes a file so that it is there whole or not at all, whenever the process ends.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let staging = path.with_extension("new");
    let write = || {
        let mut file = File::create(&staging)?;
        file.write_all(bytes)?;
        file.sync_all()?; // the name must not come before the bytes
        fs::rename(&staging, path)
    };
    write().map_err(Error::io(path))
}

/// JSON as people like to read it.
pub fn pretty(json: &Value) -> String {
    let mut text = format!("{json:#}");
    text.push('\n');
    text
}

/// The bytes of a `model.safetensors` with the names of `GPT2LMHeadModel`.
///
/// # Errors
/// [`Error::Option`] for a weight that F16 cannot hold.
pub fn safetensors(layout: &Layout, params: &[f32], stored: Stored) -> Result<Vec<u8>> {
    let mut bodies = Vec::with_capacity(layout.slots.len());
    for slot in &layout.slots {
        let values = &params[slot.range.clone()];
        if let Some(value) = values.iter().find(|x| !x.is_finite() || (stored == Stored::F16 && x.abs() > 65504.0)) {
            return Err(Error::option("dtype", format!("one that holds all of `{}`", slot.name), value));
        }
        let bytes: Vec<u8> = match stored {
            Stored::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Stored::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        };
        bodies.push((checkpoint_name(&slot.name), slot.shape.clone(), bytes));
    }
    let dtype = if stored == Stored::F32 { Dtype::F32 } else { Dtype::F16 };
    let views = bodies.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(dtype, shape.clone(), bytes).map_err(|e| Error::option("dtype", name, e));
        view.map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let format = [("format".to_string(), "pt".to_string())].into();
    serialize(views, Some(format)).map_err(|e| Error::option("dtype", "tensors that safetensors can hold", e))
}

/// A tensor's name in the class that transformers loads: the head stands beside the transformer.
pub(super) fn checkpoint_name(name: &str) -> String {
    if name == "lm_head.weight" { name.to_string() } else { format!("transformer.{name}") }
}

/// The `config.json` that goes with such weights. json: that of the model that they come from
pub fn config_of(json: &Value, stored: Stored) -> Value {
    let mut config = json.clone();
    config["architectures"] = json!(["GPT2LMHeadModel"]);
    config["dtype"] = json!(if stored == Stored::F32 { "float32" } else { "float16" });
    config
}

/// Writes a checkpoint as [`write_folder`] does.
///
/// # Errors
/// What the system says.
pub fn write_checkpoint(
    folder: &Path,
    checkpoint: &Checkpoint,
    stored: Stored,
    files: &[(String, Vec<u8>)],
) -> Result<()> {
    let Checkpoint { model, config_json, params, .. } = checkpoint;
    write_folder(folder, config_json, &model.layout, params, stored, files)
}

/// Writes configuration and weights; the weights come last, so that a folder with weights is complete.
///
/// # Errors
/// What the system says.
pub fn write_folder(
    folder: &Path,
    config_json: &Value,
    layout: &Layout,
    params: &[f32],
    stored: Stored,
    files: &[(String, Vec<u8>)],
) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let config = pretty(&config_of(config_json, stored));
    write_whole(&folder.join("config.json"), config.as_bytes())?;
    for (name, bytes) in files {
        write_whole(&folder.join(name), bytes)?;
    }
    write_whole(&folder.join("model.safetensors"), &safetensors(layout, params, stored)?)
}
