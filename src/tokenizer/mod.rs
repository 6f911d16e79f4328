//! Text ↔ token ids: every tokenizer that the `tokenizers` crate runs, and the way back to text one token at a time.

mod assemble;
mod class;
mod decoder;
mod encoder;
mod files;
mod from_files;
#[cfg_attr(not(feature = "full"), path = "no_general.rs")]
mod general;
mod gpt2_encoder;
mod letters;
mod models;
mod pieces;
mod post_processor;
mod settings;
mod steps;
mod stop;
mod stream;
mod text_filters;
mod token_stages;
#[allow(clippy::module_inception)] // the room's main thing
mod tokenizer;
mod tokenizer_json;
mod utf8;
mod words;

pub use class::END_OF_TEXT;
pub use files::{FILES, TokenizerFiles};
pub use stop::StopStrings;
pub use stream::TextStream;
pub use tokenizer::Tokenizer;
pub use utf8::Utf8Stream;
