//! A model from the files in a folder, in the order in which a page reads them.

use std::fs;
use std::path::Path;

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::{Config, WEIGHT_FILES, index};
use gpt2_web::engine::CpuEngine;
use gpt2_web::engine::cpu::Linked;
use gpt2_web::generate::GenerateOptions;
use gpt2_web::tokenizer::{FILES, Tokenizer, TokenizerFiles};
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

    let config_json = text("config.json").ok_or_else(|| missing("config.json"))?;
    let (config, mut warnings) = Config::read(&config_json)?;
    let (defaults, more) = match text("generation_config.json") {
        Some(given) => GenerateOptions::defaults(&config, Some(&given)),
        None => GenerateOptions::defaults_in_config(&config, &config_json),
    };
    warnings.extend(more);
    let mut files = TokenizerFiles::default();
    for name in ["config.json"].into_iter().chain(FILES) {
        if files.is_wanted(name)
            && let Some(bytes) = read(name)
        {
            files.set(name, bytes)?;
        }
    }
    let (tokenizer, more) = Tokenizer::from_files(files)?;
    warnings.extend(more);
    let found = WEIGHT_FILES.into_iter().find(|name| folder.join(name).exists());
    let found = found.ok_or_else(|| missing(WEIGHT_FILES[0]))?;
    let files = match found.ends_with(".json") {
        true => index::shard_names(found, &text(found).ok_or_else(|| missing(found))?)?,
        false => vec![found.to_string()],
    };
    let load = |config: &Config| {
        CpuEngine::load(config.clone(), dtype, |stream| {
            for file in &files {
                let bytes = read(file).ok_or_else(|| missing(file))?;
                stream.begin_file(file, Some(bytes.len() as u64))?;
                bytes.chunks(4099).try_for_each(|piece| stream.write(piece))?;
            }
            Ok(())
        })
    };
    let (config, (engine, more)) = match load(&config) {
        Err(error @ Error::UntiedHead { .. }) => {
            warnings.push(error.to_string());
            let untied = config.untied();
            let loaded = load(&untied)?;
            (untied, loaded)
        }
        loaded => (config, loaded?),
    };
    warnings.extend(more);
    Ok(LoadedModel { config, engine, tokenizer, defaults, warnings })
}
