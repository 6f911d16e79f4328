//! Checkpoints in the hub's layout, read into one flat buffer and written from it.

mod packed;
mod read;
mod write;

pub use packed::{packed, unpack};
pub use read::{Checkpoint, read_folder, read_model};
pub use write::{Stored, config_of, pretty, safetensors, write_checkpoint, write_folder, write_whole};
