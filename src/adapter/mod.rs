//! Low-rank adapters (LoRA) as PEFT saves them: from their two files to what is added to a model's matrices.

mod config;
mod peft;

pub use config::LoraConfig;
pub use peft::{Adapter, CONFIG_FILE, LowRank, MODULES, WEIGHTS_FILE};
