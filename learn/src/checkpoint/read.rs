//! A checkpoint's folder as the trainer holds it: the configuration, its JSON, and all parameters in one flat buffer.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use gpt2_web::checkpoint::{CheckpointReader, Config, TensorSink, WEIGHT_FILES, index};
use gpt2_web::error::Error as ModelError;
use serde_json::Value;

use crate::fused::{Model, Rates};
use crate::layout::Layout;
use crate::{Error, Result};

/// What a model's files say.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The shape, and what is dropped while learning.
    pub model: Model,
    /// The whole `config.json`, for the fields that inference does not use.
    pub config_json: Value,
    /// All parameters, in the model's layout.
    pub params: Vec<f32>,
    /// What was left out or replaced, one sentence each.
    pub warnings: Vec<String>,
}

/// A share of `config.json` that is dropped while learning.
fn rate(json: &Value, field: &'static str) -> Result<f32> {
    match json.get(field) {
        None | Some(Value::Null) => Ok(0.1), // transformers' default for GPT-2
        Some(value) => value
            .as_f64()
            .filter(|rate| (0.0..1.0).contains(rate))
            .map(|rate| rate as f32)
            .ok_or_else(|| Error::option(field, "a number from 0 to below 1", value)),
    }
}

/// The model that a `config.json` describes.
///
/// # Errors
/// What inference refuses, or a share that is no share.
pub fn read_model(text: &str) -> Result<(Model, Value, Vec<String>)> {
    let (config, warnings) = Config::read(text)?;
    let json: Value = gpt2_web::checkpoint::read_json("config.json", text)?;
    let rates = Rates {
        embedding: rate(&json, "embd_pdrop")?,
        attention: rate(&json, "attn_pdrop")?,
        residual: rate(&json, "resid_pdrop")?,
    };
    Ok((Model::new(config, rates), json, warnings))
}

/// Puts each tensor at its place in the flat buffer.
struct FlatSink {
    layout: Layout,
    params: Vec<f32>,
    /// Where the next value of the tensor that is arriving goes.
    next: usize,
}

impl TensorSink for FlatSink {
    fn begin(&mut self, name: &str, shape: &[usize]) -> gpt2_web::Result<()> {
        let slot = self.layout.slot(name).filter(|slot| slot.shape == shape);
        let unknown = || ModelError::tensor("checkpoint", name, "a tensor of the model", format!("{shape:?}"));
        self.next = slot.ok_or_else(unknown)?.range.start;
        Ok(())
    }

    fn values(&mut self, values: &[f32]) -> gpt2_web::Result<()> {
        self.params[self.next..self.next + values.len()].copy_from_slice(values);
        self.next += values.len();
        Ok(())
    }

    fn end(&mut self) -> gpt2_web::Result<()> {
        Ok(())
    }
}

/// Reads a folder in the hub's layout: any checkpoint that the page can load.
///
/// # Errors
/// What the files are refused for.
pub fn read_folder(folder: &Path) -> Result<Checkpoint> {
    let config_path = folder.join("config.json");
    let text = fs::read_to_string(&config_path).map_err(Error::io(&config_path))?;
    let (mut model, config_json, mut warnings) = read_model(&text)?;
    let (params, more) = match read_params(folder, &model) {
        Err(Error::Model(error @ ModelError::UntiedHead { .. })) => {
            warnings.push(error.to_string());
            model = Model::new(model.config.untied(), model.rates);
            read_params(folder, &model)?
        }
        read => read?,
    };
    warnings.extend(more);
    Ok(Checkpoint { model, config_json, params, warnings })
}

fn read_params(folder: &Path, model: &Model) -> Result<(Vec<f32>, Vec<String>)> {
    let found = WEIGHT_FILES.into_iter().find(|name| folder.join(name).exists());
    let found = found.ok_or_else(|| Error::file(folder, format!("one of {WEIGHT_FILES:?}"), "none of them"))?;
    let names = match found.ends_with(".json") {
        true => {
            let path = folder.join(found);
            index::shard_names(found, &fs::read_to_string(&path).map_err(Error::io(&path))?)?
        }
        false => vec![found.to_string()],
    };
    let layout = model.layout.clone();
    let sink = FlatSink { params: vec![0.0; layout.n_params], layout, next: 0 };
    let mut reader = CheckpointReader::new(model.config.clone(), sink);
    let mut piece = vec![0; 1 << 20];
    for name in names {
        let path = folder.join(&name);
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let n_bytes = file.metadata().map_err(Error::io(&path))?.len();
        reader.begin_file(&name, Some(n_bytes))?;
        loop {
            let n = file.read(&mut piece).map_err(Error::io(&path))?;
            if n == 0 {
                break;
            }
            reader.write(&piece[..n])?;
        }
    }
    let (sink, warnings) = reader.finish()?;
    Ok((sink.params, warnings))
}
