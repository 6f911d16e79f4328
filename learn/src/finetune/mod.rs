//! Fine-tuning on a text: an adapter that learns beside a model, or the model itself.
//!
//! ```text
//! texts -> windows.rs: rows, and what is kept back -> run.rs: steps, scores, the best -> pupil.rs: what learns
//! ```

mod progress;
mod pupil;
mod run;
mod settings;
mod windows;

pub use progress::Progress;
pub use run::{Finetune, FinetuneReport, estimate_bytes, plan};
pub use settings::{FinetuneSettings, Method};
pub use windows::{RowBuffer, Windows};
