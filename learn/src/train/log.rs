//! What a run tells of itself, one line of JSON for each step and each measurement.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::write_whole;
use crate::{Error, Result};

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A step.
    Step {
        /// From 1.
        step: u64,
        /// Nats per token.
        loss: f64,
        /// The learning rate.
        rate: f64,
        /// Of the gradients, before clipping.
        grad_norm: f64,
    },
    /// A measurement on the held-out text.
    HeldOut {
        /// After so many steps.
        step: u64,
        /// Nats per token.
        held_out: f64,
    },
}

impl Line {
    /// The step that it tells of.
    pub fn step(&self) -> u64 {
        match *self {
            Line::Step { step, .. } | Line::HeldOut { step, .. } => step,
        }
    }
}

/// Every line of a run's log.
///
/// # Errors
/// What the system says, or [`Error::File`] for a line that is none; a kill may leave half of the last one.
pub fn read_log(path: &Path) -> Result<Vec<Line>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let read = |words| serde_json::from_str(words).map_err(|_| Error::file(path, "a line of a run's log", words));
    whole.lines().map(read).collect()
}

/// The file, and the lines that are not written yet.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    pending: String,
    /// All lines.
    pub lines: Vec<Line>,
}

impl Log {
    /// The log of a run that goes on after `step`: what a run before had told of later steps is forgotten.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let text = if path.exists() { fs::read_to_string(path).map_err(Error::io(path))? } else { String::new() };
        let mut log = Self { path: path.to_path_buf(), pending: String::new(), lines: Vec::new() };
        // a kill may leave half a line, which only the last one can be, and which tells of a later step
        for words in text.lines() {
            if let Some(line) = serde_json::from_str(words).ok().filter(|line: &Line| line.step() <= step) {
                log.add(words, line); // as it was written, for a number that is read and written may change
            }
        }
        write_whole(path, log.pending.as_bytes())?;
        log.pending.clear();
        Ok(log)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// A line that is no JSON, which a number that is not finite would be.
    pub fn push(&mut self, line: Line) -> Result<()> {
        let json = serde_json::to_string(&line).map_err(|e| Error::io(&self.path)(e.into()))?;
        self.add(&json, line);
        Ok(())
    }

    fn add(&mut self, words: &str, line: Line) {
        self.pending.push_str(words);
        self.pending.push('\n');
        self.lines.push(line);
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path).map_err(Error::io(&self.path))?;
        file.write_all(self.pending.as_bytes()).map_err(Error::io(&self.path))?;
        self.pending.clear();
        Ok(())
    }
}
