//! From gradients to the next parameters.

mod adamw;
mod muon;
mod schedule;
mod shares;

pub use adamw::{AdamW, Buffers, Update};
pub use muon::Muon;
pub use schedule::{Schedule, clip_factor, norm};
