//! What can go wrong, as one type: every error names the thing, what was expected and what was found.

use thiserror::Error;

/// An error of this crate. [`Error::code`] is stable and is what JavaScript sees as `code`.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// The checkpoint is readable but asks for something that this crate does not compute.
    #[error("{file}: `{field}`: expected {expected}, found {found}")]
    UnsupportedModel {
        /// The file that asks for it.
        file: String,
        /// Its field that is not supported.
        field: String,
        /// What this crate supports there.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A file of the checkpoint is malformed or incomplete.
    #[error("{}{}: expected {expected}, found {found}", file, tensor.as_ref().map(|t| format!(": tensor `{t}`")).unwrap_or_default())]
    Checkpoint {
        /// The file's name.
        file: String,
        /// The tensor's name in the file, where the error is about one.
        tensor: Option<String>,
        /// What a well-formed checkpoint has there.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// The configuration says that the head is the embedding, and the files have a head that differs from it. The
    /// caller reads them again with the configuration untied.
    #[error(
        "{file}: tensor `lm_head.weight`: expected the numbers of `wte.weight`, since config.json ties them, found others"
    )]
    UntiedHead {
        /// The file that holds the head.
        file: String,
    },
    /// An option is unknown or its value is out of range.
    #[error("option `{option}`: expected {expected}, found {found}")]
    InvalidOption {
        /// The option's name.
        option: String,
        /// The values that it takes.
        expected: String,
        /// The value given.
        found: String,
    },
    /// The text does not fit the context window.
    #[error("context window: expected at most {n_ctx} tokens, found {found}")]
    ContextWindow {
        /// Size of the window, tokens.
        n_ctx: usize,
        /// What was asked for, in words.
        found: String,
    },
    /// WebGPU was asked for by name and cannot be had.
    #[error("WebGPU is not available: {0}")]
    WebGpuNotAvailable(String),
    /// The GPU device was lost while it was in use.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
    /// There is not enough memory.
    #[error("out of memory: {what} takes {n_bytes} bytes, more than can be had here")]
    OutOfMemory {
        /// What it is for.
        what: String,
        /// How much, bytes.
        n_bytes: u64,
    },
    /// There is not enough memory on the GPU. The engine and what it holds are as they were.
    #[error("out of GPU memory: {what} takes {n_bytes} bytes, more than can be had there")]
    GpuOutOfMemory {
        /// What it is for.
        what: String,
        /// How much, bytes.
        n_bytes: u64,
    },
    /// The model's weights are larger than the CPU engine can hold in any browser.
    #[error(
        "out of memory: the model in {dtype} takes {n_bytes} bytes, and the CPU engine holds at most {max_bytes}; {}",
        instead.as_ref().map_or("it fits in no dtype".to_string(), |dtype| format!("dtype \"{dtype}\" fits"))
    )]
    ModelTooLarge {
        /// The format of the weights.
        dtype: String,
        /// How much they take, bytes.
        n_bytes: u64,
        /// How much can be had, bytes.
        max_bytes: u64,
        /// The most accurate format that fits.
        instead: Option<String>,
    },
    /// The model's output cannot be sampled from: NaN, infinite, or nothing left after masking.
    #[error("logits cannot be sampled from: {0}")]
    InvalidLogits(String),
    /// The caller wants this ended; text and cache are as before the call.
    #[error("interrupted")]
    Interrupted,
    /// This build leaves out what the larger one can do (feature `full`). The caller begins again with that one.
    #[error("{0}: not in this build, which is made for GPT-2's own tokenizer and the CPU")]
    NotInThisBuild(&'static str),
    /// A call that cannot be made now, such as a second `next` while the first is running.
    #[error("invalid state: {0}")]
    InvalidState(String),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::UnsupportedModel { .. } => "unsupported_model",
            Error::Checkpoint { .. } => "checkpoint",
            Error::UntiedHead { .. } => "untied_head",
            Error::InvalidOption { .. } => "invalid_option",
            Error::ContextWindow { .. } => "context_window",
            Error::WebGpuNotAvailable(_) => "webgpu_not_available",
            Error::DeviceLost(_) => "device_lost",
            Error::OutOfMemory { .. } | Error::GpuOutOfMemory { .. } | Error::ModelTooLarge { .. } => "out_of_memory",
            Error::InvalidLogits(_) => "invalid_logits",
            Error::Interrupted => "interrupted",
            Error::NotInThisBuild(_) => "not_in_this_build",
            Error::InvalidState(_) => "invalid_state",
        }
    }

    /// A field of a file that this crate does not support.
    pub fn unsupported(
        file: impl Into<String>,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error::UnsupportedModel {
            file: file.into(),
            field: bounded(field),
            expected: expected.into(),
            found: bounded(found),
        }
    }

    /// A malformed file.
    pub fn file(file: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::Checkpoint { file: file.into(), tensor: None, expected: bounded(expected), found: bounded(found) }
    }

    /// A malformed or missing tensor.
    pub fn tensor(
        file: impl Into<String>,
        tensor: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error::Checkpoint {
            file: file.into(),
            tensor: Some(bounded(tensor)),
            expected: bounded(expected),
            found: bounded(found),
        }
    }

    /// An unknown option or a value out of range.
    pub fn invalid_option(option: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Error::InvalidOption { option: bounded(option), expected: expected.into(), found: bounded(found) }
    }

    /// Logits that cannot be sampled from.
    pub fn invalid_logits(message: impl Into<String>) -> Self {
        Error::InvalidLogits(message.into())
    }
}

/// A file's own words, as an error quotes them.
pub(crate) fn excerpt(text: &str) -> String {
    shortened(text, 80)
}

/// What an error keeps of any text that comes from outside: a hostile file must not fill a page, or a log, with it.
fn bounded(text: impl Into<String>) -> String {
    shortened(&text.into(), 240)
}

fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
