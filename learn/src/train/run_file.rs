//! `run.json`: all that is needed to repeat a run, and what may change when it goes on.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{pretty, write_whole};
use crate::train::Settings;
use crate::{Error, Result};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// How it learns.
    pub settings: Settings,
    /// `config.json` of the model.
    pub model: Value,
    /// The folder of text, the start and the teacher, as they were named.
    pub inputs: Value,
    /// Versions of what ran.
    pub versions: Value,
    /// The machine.
    pub hardware: Value,
}

impl RunFile {
    /// The file of a run that begins here and now.
    pub fn new(settings: Settings, model: Value, inputs: Value) -> Self {
        let versions = json!({ "gpt2-learn": env!("CARGO_PKG_VERSION") });
        let n_cores = std::thread::available_parallelism().map_or(0, usize::from);
        let hardware = json!({
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "processor": processor(),
            "cores": n_cores,
        });
        Self { settings, model, inputs, versions, hardware }
    }

    /// Writes it, or holds it against the one that is there: a run that goes on has to be the same run, but for its
    /// length. → whether the run goes on
    ///
    /// # Errors
    /// [`Error::File`] that names what differs.
    pub fn settle(&self, path: &Path, n_steps_done: u64) -> Result<bool> {
        let is_there = path.exists();
        if is_there {
            let bytes = fs::read(path).map_err(Error::io(path))?;
            let before: Self = serde_json::from_slice(&bytes)
                .map_err(|e| Error::file(path, "the settings of a run", e.to_string()))?;
            self.check_against(&before, path, n_steps_done)?;
        }
        let json = serde_json::to_value(self).map_err(|e| Error::io(path)(e.into()))?;
        write_whole(path, pretty(&json).as_bytes())?;
        Ok(is_there)
    }

    fn check_against(&self, before: &Self, path: &Path, n_steps_done: u64) -> Result<()> {
        let fields = |run: &Self| -> Result<Value> {
            let mut settings = serde_json::to_value(&run.settings).map_err(|e| Error::io(path)(e.into()))?;
            // what is written, when and how often decides nothing of what is learnt
            for name in ["dtype", "prefetch", "read_every", "save_every", "sample_every", "schedule"] {
                settings[name] = Value::Null;
            }
            Ok(json!({ "settings": settings, "model": run.model, "inputs": run.inputs }))
        };
        let (old, new) = (fields(before)?, fields(self)?);
        for (group, fields) in old.as_object().into_iter().flatten() {
            let names = fields.as_object().into_iter().flatten().map(|(name, _)| name);
            for name in names.chain(new[group].as_object().into_iter().flatten().map(|(name, _)| name)) {
                if old[group][name] != new[group][name] {
                    let what = |run: &Value| format!("`{name}` {}", run[group][name]);
                    let expected = format!("the run that was begun here, with {}, or another folder", what(&old));
                    return Err(Error::file(path, expected, what(&new)));
                }
            }
        }
        let (old, new) = (before.settings.schedule, self.settings.schedule);
        match (0..n_steps_done).find(|&step| old.at(step) != new.at(step)) {
            None => Ok(()),
            Some(step) => {
                let expected = format!("the rates that the steps so far had ({} at step {step})", old.at(step));
                Err(Error::file(path, expected, format!("{}", new.at(step))))
            }
        }
    }
}

/// The processor's name, where the system tells it in a file.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_string())
}
