//! The loop over tokens: options of a generation, a text with its KV cache, and how likely a text is.

mod file;
mod job;
mod lookup;
mod options;
mod round;
mod run;
mod scheduler;
mod score;
mod session;
mod step;
mod text;
mod token_text;
mod value;

pub use job::{Event, News, Sequence};
pub use options::{ContextOverflow, GenerateOptions, GuessLimit, MAX_SEQUENCES, TotalLength};
pub use scheduler::Scheduler;
pub use score::{Score, ScoredToken, Scorer};
pub use session::{Guesses, Session};
pub use step::{Chunk, FinishReason, Step};
pub use token_text::TokenLogprob;
