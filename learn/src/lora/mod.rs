//! Fine-tuning by low-rank adapters: the model stays as it is, and a small file learns.

mod config;
mod learner;
mod peft;

pub use config::LoraSettings;
pub use learner::{Base, LoraLearner, LoraRecipe, LoraState};
pub use peft::{parameters, peft_files};
