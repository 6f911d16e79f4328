//! What a model's files say: its configuration, and its tensors from their bytes to an engine's memory, one at a time.
//!
//! ```text
//! bytes -reader-> safetensors header, then one tensor's bytes at a time -stored dtype-> f32 -> [`TensorSink`]
//! TensorSink: packed weights for the engines that are ours, the reference's tensors on a Burn device
//! ```

mod config;
pub mod index;
pub mod names;
pub mod packing;
mod reader;
mod safetensors;
mod stored_dtype;

pub use config::{Activation, Config, token_ids};
pub use packing::PackingSink;
pub use reader::{CheckpointReader, TensorSink};
pub use safetensors::{Header, PREFIX_BYTES, TensorInfo};
pub use stored_dtype::StoredDtype;
