//! A model from the files in a folder, in the order in which a page reads them.

use std::fs;
use std::path::Path;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::{Config, index};
use gpt2_web::engine::CpuEngine;
use gpt2_web::engine::cpu::Linked;
use gpt2_web::generate::GenerateOptions;
use gpt2_web::tokenizer::Tokenizer;
use gpt2_web::{Error, Result};

/// A model that is ready to generate.
pub struct LoadedModel {
    pub config: Config,
    pub engine: CpuEngine<Linked>,
    pub tokenizer: Tokenizer,
    pub defaults: GenerateOptions,
    /// What of the files was left out or replaced, one sentence each.
    pub warnings: Vec<String>,
}

/// Loads what is in `folder` on the CPU.
///
/// # Errors
/// What the files are refused for.
pub fn load_folder(folder: &Path, dtype: Dtype) -> Result<LoadedModel> {
    let read = |name: &str| fs::read(folder.join(name)).ok();
    let text = |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let missing = |name: &str| Error::file(name, "a file", "none in the folder");

    let config = Config::from_json(&text("config.json").ok_or_else(|| missing("config.json"))?)?;
    let (defaults, warnings) = GenerateOptions::defaults(&config, text("generation_config.json").as_deref());
    let tokenizer = match (read("tokenizer.json"), text("vocab.json"), text("merges.txt")) {
        (Some(json), ..) => Tokenizer::from_tokenizer_json(json)?,
        (None, Some(vocab), Some(merges)) => Tokenizer::from_vocab_and_merges(&vocab, &merges)?,
        _ => return Err(missing("tokenizer.json")),
    };
    let files = match text(index::FILE) {
        Some(json) => index::shard_names(index::FILE, &json)?,
        None => vec!["model.safetensors".to_string()],
    };
    let engine = CpuEngine::load(config.clone(), dtype, |stream| {
        for file in files {
            let bytes = read(&file).ok_or_else(|| missing(&file))?;
            stream.begin_file(&file, Some(bytes.len() as u64))?;
            bytes.chunks(4099).try_for_each(|piece| stream.write(piece))?;
        }
        Ok(())
    })?;
    Ok(LoadedModel { config, engine, tokenizer, defaults, warnings })
}
