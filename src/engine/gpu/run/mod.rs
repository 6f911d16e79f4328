//! Running the model: a pass, a pass over several texts, decoding without the wait, attention weights, and the engine's trait.

mod ahead;
mod attentions;
mod batch;
mod batch_made;
mod engine;
mod pass;

pub use ahead::{Input, Pending};
pub(crate) use pass::End;
pub use pass::GpuEngine;
