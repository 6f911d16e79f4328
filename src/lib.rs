//! GPT-2 that writes inside a web page, on the visitor's own machine.
//!
//! ```text
//! text -tokenizer-> [TokenId] -engine (KV cache)-> logits -sampler-> TokenId -tokenizer-> bytes -utf8-> text
//!         '------------ session: prefill once, then decode one token at a time ------------'
//! ```
//!
//! To follow one prompt through the house, read in this order, which is also the order of the layers: each module uses
//! only those above it.
//!
//! 1. [`error`] and [`token`]: the two things that every room knows
//! 2. [`checkpoint`]: what a model's files say
//! 3. [`adapter`]: what is added to a model's matrices, if anything
//! 4. [`tokenizer`]: text to ids and back
//! 5. `gpt2` (feature `burn`): the model, like the paper; a page is built without it
//! 6. [`sampler`]: logits to one id
//! 7. [`engine`]: what runs the model: the reference, the CPU's kernels (`kernels/`), the GPU's WGSL
//! 8. [`generate`]: the loop
//! 9. [`web`]: all of it for JavaScript
//!
//! `docs/architecture.md` has the picture, the rooms one by one, the invariants and a glossary; `tests/layers.rs` keeps
//! the order.

pub mod adapter;
pub mod checkpoint;
pub mod engine;
pub mod error;
pub mod generate;
#[cfg(feature = "burn")]
pub mod gpt2;
pub mod sampler;
pub mod token;
pub mod tokenizer;
pub mod web;

pub use error::{Error, Result};
