//! Training runs.

#[cfg(not(target_arch = "wasm32"))]
mod any_learner;
#[cfg(not(target_arch = "wasm32"))]
mod corpus;
#[cfg(not(target_arch = "wasm32"))]
mod curve;
mod learner;
#[cfg(not(target_arch = "wasm32"))]
mod log;
#[cfg(not(target_arch = "wasm32"))]
mod run;
#[cfg(not(target_arch = "wasm32"))]
mod run_file;
#[cfg(not(target_arch = "wasm32"))]
mod settings;
#[cfg(not(target_arch = "wasm32"))]
mod state_file;

pub use learner::{Batch, Learner, Recipe, State, StepPhases, StepReport};

#[cfg(not(target_arch = "wasm32"))]
mod program {
    pub use super::corpus::Corpus;
    pub use super::curve::draw;
    pub use super::log::{Line, read_log};
    pub use super::run::{Event, Run};
    pub use super::settings::{Optimizer, Precision, Preset, Settings};
    pub use super::state_file::Best;
}
#[cfg(not(target_arch = "wasm32"))]
pub use program::*;
