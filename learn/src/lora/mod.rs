//! Low-rank adapters that learn: the model stays as it is, and a small file learns.

mod config;
mod learner;
mod merge;
mod peft;

pub use config::{LoraSettings, start};
pub use learner::{Base, LoraLearner, LoraRecipe};
pub use merge::merge;
pub use peft::{parameters, peft_files};
