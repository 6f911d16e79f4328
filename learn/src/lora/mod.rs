//! Fine-tuning by low-rank adapters: the model stays as it is, and a small file learns.

mod config;
mod finetune;
mod learner;
mod merge;
mod peft;
mod progress;
mod windows;

pub use config::LoraSettings;
pub use finetune::{Finetune, FinetuneReport, FinetuneSettings, estimate_bytes, plan};
pub use learner::{Base, LoraLearner, LoraRecipe, LoraState};
pub use merge::merge;
pub use peft::{parameters, peft_files};
pub use progress::Progress;
pub use windows::{RowBuffer, Windows};
