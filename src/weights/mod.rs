//! From a checkpoint's bytes to an engine's memory, one tensor at a time.
//!
//! ```text
//! bytes -stream-> safetensors header, then one tensor's bytes at a time -dtype-> f32 -> [`Sink`]
//! Sink: [`Packed`] weights for the engines that are ours, the reference's tensors on a Burn device
//! ```

mod dtype;
mod header;
pub mod index;
pub mod names;
pub mod packed;
mod stream;

pub use dtype::Dtype;
pub use header::{Header, PREFIX_BYTES, TensorInfo};
pub use packed::Packed;
pub use stream::{CheckpointStream, Sink};
