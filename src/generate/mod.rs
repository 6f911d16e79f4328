//! The loop over tokens: options of a generation, a text with its KV cache, and how likely a text is.

mod file;
mod options;
mod score;
mod session;
mod text;
mod token_text;
mod value;

pub use options::{ContextOverflow, GenerateOptions, TotalLength};
pub use score::{Score, ScoredToken, Scorer};
pub use session::{Chunk, FinishReason, Session, Step};
pub use token_text::TokenLogprob;
