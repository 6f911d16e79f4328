//! Training runs.

mod corpus;
mod learner;
mod log;
mod run;
mod run_file;
mod settings;
mod state_file;

pub use corpus::Corpus;
pub use learner::{Batch, Learner, Recipe, State, StepPhases, StepReport};
pub use log::Line;
pub use run::{Event, Run};
pub use settings::{Optimizer, Preset, Settings};
pub use state_file::Best;
