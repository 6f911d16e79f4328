//! GPT-2 that writes inside a web page, on the visitor's own machine.
//!
//! ```text
//! text -tokenizer-> [TokenId] -engine (KV cache)-> logits -sampler-> TokenId -tokenizer-> bytes -utf8-> text
//!         '------------ session: prefill once, then decode one token at a time ------------'
//! session -> web (wasm-bindgen) -> www/src/worker.ts ==messages== www/src/generator.ts -> elements, page
//! checkpoint files -> www/src/hub.ts (fetch, IndexedDB) -> weights (safetensors -> f32) -> packed -> engine
//! ```
//!
//! To follow one prompt through the house, read in this order:
//!
//! 1. [`tokenizer`]: text to ids and back
//! 2. [`config`] and `gpt2`: the model, like the paper; a page is built without the latter (feature `reference`)
//! 3. [`engine`]: what runs it: the reference, the CPU's kernels (`kernels/`), the GPU's WGSL
//! 4. [`sampler`]: logits to one id
//! 5. [`options`] and [`session`]: the loop
//! 6. [`weights`]: where the tensors come from
//! 7. [`device`], [`self_test`] and [`trial`]: where they go, and whether that place can be trusted
//! 8. `web`: all of it for JavaScript
//!
//! Dependencies run downward only: the model knows no text, sampling or I/O; the sampler and the tokenizer know no
//! tensors; only [`device`] and the engines' callers name a backend; only `web` names `wasm_bindgen`; a KV cache belongs
//! to a session, never to the model. `tests/layers.rs` reads the sources and keeps it so.

pub mod config;
pub mod device;
pub mod engine;
pub mod error;
#[cfg(feature = "reference")]
pub mod gpt2;
pub mod options;
pub mod sampler;
pub mod score;
pub mod self_test;
pub mod session;
pub mod tokenizer;
pub mod trial;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

pub use error::{Error, Result};
