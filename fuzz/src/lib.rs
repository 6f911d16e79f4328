//! The library's readers of untrusted files, for the fuzz targets.
//!
//! Their sources are included from `../src` in the library's own module tree, less what computes: Burn takes many
//! minutes to build and reads no file. A module that comes to depend on it no longer compiles here. `cargo test --lib`
//! runs the unit tests of what is included.

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/options.rs"]
pub mod options;
#[path = "../../src/sampler.rs"]
pub mod sampler;
#[path = "../../src/tokenizer/mod.rs"]
pub mod tokenizer;

/// As `src/gpt2/mod.rs`, without the model.
#[path = "../../src/gpt2"]
pub mod gpt2 {
    mod config;
    pub use config::{Activation, Config, token_ids};
}

/// As `src/weights/mod.rs`, without the tensors.
#[path = "../../src/weights"]
pub mod weights {
    mod dtype;
    mod header;
    pub mod index;
    pub mod names;
    pub use dtype::Dtype;
    pub use header::{Header, PREFIX_BYTES, TensorInfo};
}

pub use error::{Error, Result};

/// Passes a reader's answer on. An error quotes little of the file: its text goes to a page, and to its log.
pub fn brief<T>(answer: Result<T>) -> Option<T> {
    let error = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(error.len() <= 1000, "an error of {} bytes: {error}", error.len());
    answer.ok()
}
