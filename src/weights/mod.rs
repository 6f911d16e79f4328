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

/// Most bytes that any error message quotes from a file.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
