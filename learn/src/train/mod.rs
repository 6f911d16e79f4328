//! Training runs.

mod learner;

pub use learner::{Batch, Learner, Recipe, State, StepPhases, StepReport};
