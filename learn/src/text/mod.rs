//! From a folder of text to rows of tokens.

mod folder;
mod loader;
mod token_file;
mod vocabulary;

pub use folder::{TextFolder, read_text, texts};
pub use loader::{Loader, RowOrder, RowsOf};
pub use token_file::{TokenFile, tokenise};
pub use vocabulary::{read_tokenizer, train_vocabulary};
