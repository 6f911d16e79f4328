//! Learning through Burn: the model of `gpt2_web::gpt2` with its autodiff, on a GPU or on several devices at once.
//!
//! The processor's own steps (`fused`) are faster there; these are for what they cannot use. Parameters and moments
//! stay on the device; the losses come back some steps at a time.
//!
//! ```text
//! rows -> replica (model.rs), one a device: loss, gradients -> learner.rs: sum, clipping, adamw.rs | muon.rs -> replicas
//! ```

mod adamw;
mod learner;
mod model;
mod muon;
mod place;

pub use learner::DeviceLearner;
pub use place::{Place, open};
