//! From a GPU that is open to an engine that can be trusted: weights, kernels, how they are spread, and a known answer.

mod load;
mod profile;
mod search;
mod timer;
mod trial;

pub use load::GpuLoader;
pub use profile::Span;
pub use trial::{BringUpStep, Trial, TuningSource};
