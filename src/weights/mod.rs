//! From a checkpoint's bytes to tensors on a device, one tensor at a time.
//!
//! ```text
//! bytes -stream-> safetensors header, then one tensor's bytes at a time -dtype-> f32 -> [`Tensors`] on the device
//! ```

mod dtype;
mod header;
pub mod index;
pub mod names;
mod stream;
mod tensors;

pub use dtype::Dtype;
pub use header::{Header, TensorInfo};
pub use stream::CheckpointStream;
pub use tensors::Tensors;
