//! What can go wrong while learning: every error names the thing, what was expected and what was found.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of this crate.
#[derive(Debug, Error)]
pub enum Error {
    /// A checkpoint, a tokenizer or an option that the inference crate refuses.
    #[error(transparent)]
    Model(#[from] gpt2_web::Error),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file whose content is not what was expected.
    #[error("{}: expected {expected}, found {found}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// An option that cannot be used, or that contradicts another.
    #[error("option `{option}`: expected {expected}, found {found}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The values that it takes.
        expected: String,
        /// The value given.
        found: String,
    },
    /// The loss is no longer a number, so that no further step can repair it.
    #[error("step {step}: the loss is {loss}: the learning rate is too high, or the weights were damaged before")]
    Diverged {
        /// The step, from 1.
        step: usize,
        /// What came out.
        loss: f64,
    },
    /// The `tokenizers` crate's own words.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the system says of a file.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Error::Io { path: path.to_path_buf(), source }
    }

    /// A file whose content is not what was expected.
    pub fn file(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::File { path: path.to_path_buf(), expected: expected.into(), found: found.into() }
    }

    /// An option that cannot be used.
    pub fn option(option: &'static str, expected: impl Into<String>, found: impl ToString) -> Self {
        Error::Option { option, expected: expected.into(), found: found.to_string() }
    }
}
