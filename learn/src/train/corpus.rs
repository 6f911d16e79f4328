//! Everything that a run reads of its text: the tokenizer, the tokens to learn from, and those held out.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use gpt2_web::tokenizer::{END_OF_TEXT, Tokenizer};

use crate::checkpoint::write_whole;
use crate::text::{RowsOf, TextFolder, TokenFile, read_text, read_tokenizer, texts, tokenise, train_vocabulary};
use crate::{Error, Result};

/// The share of the tokens that is held out where no file is.
const HELD_OUT_SHARE: usize = 100;

/// Text as tokens.
#[derive(Debug)]
pub struct Corpus {
    /// `tokenizer.json`
    pub tokenizer_json: Vec<u8>,
    /// The same, read.
    pub tokenizer: Tokenizer,
    /// The id of the end of text.
    pub end_of_text: u32,
    /// What is learnt from: the first `n_train` tokens of it.
    pub train: Arc<TokenFile>,
    /// How many tokens are learnt from.
    pub n_train: usize,
    held_out: Arc<TokenFile>,
    held_out_range: Range<usize>,
}

impl Corpus {
    /// Reads a folder of text. Its tokens and, unless a tokenizer is given, its vocabulary are kept in `kept`.
    ///
    /// # Errors
    /// What the files are refused for.
    pub fn open(text: &Path, kept: &Path, tokenizer: Option<&Path>, vocab_size: usize, threads: usize) -> Result<Self> {
        let folder = TextFolder::list(text)?;
        let own = kept.join("tokenizer.json");
        let path = tokenizer.unwrap_or(&own);
        if tokenizer.is_none() && !own.exists() {
            let files = folder.train.iter().map(|file| read_text(file)).collect::<Result<Vec<_>>>()?;
            let json = train_vocabulary(files.iter().flat_map(|file| texts(file)), vocab_size)?;
            std::fs::create_dir_all(kept).map_err(Error::io(kept))?;
            write_whole(&own, json.as_bytes())?;
        }
        let (tokenizer_json, tokenizer) = read_tokenizer(path)?;
        let end_of_text = match tokenizer.encode_continuation(END_OF_TEXT)?.as_slice() {
            [id] => *id,
            ids => return Err(Error::file(path, format!("one token for {END_OF_TEXT}"), format!("{}", ids.len()))),
        };
        let tokens = |name, files| tokenise(kept, name, files, &tokenizer_json, end_of_text, threads).map(Arc::new);
        let train = tokens("train", &folder.train)?;
        let mut n_train = train.n_tokens();
        let (held_out, held_out_range) = if folder.held_out.is_empty() {
            n_train -= n_train.div_ceil(HELD_OUT_SHARE);
            (train.clone(), n_train..train.n_tokens())
        } else {
            let held_out = tokens("held-out", &folder.held_out)?;
            let all = 0..held_out.n_tokens();
            (held_out, all)
        };
        Ok(Self { tokenizer_json, tokenizer, end_of_text, train, n_train, held_out, held_out_range })
    }

    /// About `n_tokens` of the held-out text in rows that are spread over all of it.
    ///
    /// # Errors
    /// [`Error::Option`] where it is shorter than a row.
    pub fn held_out(&self, n_tokens: usize, row_len: usize) -> Result<RowsOf> {
        let Range { start, end } = self.held_out_range;
        let n_fit = (end - start).saturating_sub(1) / row_len;
        if n_fit == 0 {
            return Err(Error::option("row-tokens", format!("below the {} held-out tokens", end - start), row_len));
        }
        let n_rows = (n_tokens / row_len).clamp(1, n_fit);
        let mut rows = RowsOf::new(row_len);
        for i in 0..n_rows {
            let begin = start + i * n_fit / n_rows * row_len;
            rows.push(&self.held_out, begin..begin + row_len + 1);
        }
        Ok(rows)
    }
}
