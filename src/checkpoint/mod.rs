//! What a model's files say: its configuration, and its tensors from their bytes to an engine's memory, one at a time.
//!
//! ```text
//! bytes -first bytes-> format: safetensors, PyTorch -list of tensors-> intake: which ones, under which names
//!       -stored dtype-> f32, one tensor after the other -> [`TensorSink`]
//! TensorSink: packed weights for the engines that are ours, the reference's tensors on a Burn device
//! ```

mod config;
mod file_kind;
pub mod index;
mod intake;
mod json;
pub mod names;
pub mod packing;
mod pytorch;
mod reader;
mod safetensors;
mod safetensors_file;
mod sink;
mod stored_dtype;
mod tensor_file;

pub use config::{Activation, Config, token_ids};
pub use index::WEIGHT_FILES;
pub use json::{read_json, whole_number};
pub use packing::PackingSink;
pub use reader::CheckpointReader;
pub use safetensors::{Header, PREFIX_BYTES, TensorInfo};
pub use sink::TensorSink;
pub use stored_dtype::StoredDtype;
