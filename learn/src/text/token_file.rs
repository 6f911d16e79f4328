//! Tokens on disk: a text is tokenised once, and its tokens are mapped into memory from then on.
//!
//! `NAME.tokens` holds the ids one after the other, two bytes each (little-endian), four where the vocabulary needs them;
//! `NAME.json`, written last, says what they were made from, and a file made from anything else is made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gpt2_web::tokenizer::Tokenizer;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::{read_text, texts};
use crate::checkpoint::{pretty, write_whole};
use crate::{Error, Result};

/// What `NAME.json` says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    /// SHA-256 over the tokenizer's and all texts' files, hexadecimal.
    sha256: String,
    n_tokens: usize,
    /// In UTF-8.
    n_text_bytes: usize,
    bytes_per_token: usize,
}

/// Tokens of some texts, each text followed by the end of text.
#[derive(Debug)]
pub struct TokenFile {
    map: Mmap,
    bytes_per_token: usize,
    /// UTF-8 bytes of the texts.
    pub n_text_bytes: usize,
}

impl TokenFile {
    /// How many tokens there are.
    pub fn n_tokens(&self) -> usize {
        self.map.len() / self.bytes_per_token
    }

    /// Tokens `begin`.. for as long as asked; stops at the end.
    pub fn ids(&self, begin: usize, n: usize) -> impl Iterator<Item = u32> + '_ {
        let width = self.bytes_per_token;
        let bytes = &self.map[(begin * width).min(self.map.len())..((begin + n) * width).min(self.map.len())];
        bytes.chunks_exact(width).map(|bytes| bytes.iter().rev().fold(0, |id, &byte| (id << 8) | u32::from(byte)))
    }
}

/// The tokens of `files`, from `FOLDER/NAME.tokens` where they were made from the same texts with the same tokenizer.
///
/// # Errors
/// What the system says, and what the texts are refused for.
pub fn tokenise(
    folder: &Path,
    name: &str,
    files: &[PathBuf],
    tokenizer_json: &[u8],
    end_of_text: u32,
    n_threads: usize,
) -> Result<TokenFile> {
    let (path, origin_path) = (folder.join(format!("{name}.tokens")), folder.join(format!("{name}.json")));
    let mut hash = Sha256::new_with_prefix(tokenizer_json);
    for file in files {
        hash.update(fs::read(file).map_err(Error::io(file))?);
    }
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let known = fs::read(&origin_path).ok().and_then(|json| serde_json::from_slice::<Origin>(&json).ok());
    if let Some(origin) = known.filter(|origin| origin.sha256 == sha256) {
        return open(&path, &origin);
    }

    let vocab_size = Tokenizer::from_tokenizer_json(tokenizer_json)?.vocab_size();
    let bytes_per_token = if vocab_size <= 1 << 16 { 2 } else { 4 };
    let (mut bytes, mut n_text_bytes) = (Vec::new(), 0);
    for file in files {
        let text = read_text(file)?;
        let texts: Vec<&str> = texts(&text).collect();
        n_text_bytes += texts.iter().map(|text| text.len()).sum::<usize>();
        for ids in encode_all(&texts, tokenizer_json, n_threads)? {
            for id in ids.into_iter().chain([end_of_text]) {
                bytes.extend_from_slice(&id.to_le_bytes()[..bytes_per_token]);
            }
        }
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    write_whole(&path, &bytes)?;
    let origin = Origin { sha256, n_tokens: bytes.len() / bytes_per_token, n_text_bytes, bytes_per_token };
    let json = serde_json::to_value(&origin).map_err(|e| Error::io(&origin_path)(e.into()))?;
    write_whole(&origin_path, pretty(&json).as_bytes())?;
    open(&path, &origin)
}

/// Every text's tokens, in order. Each thread has a tokenizer of its own, for a tokenizer cannot be shared.
fn encode_all(texts: &[&str], tokenizer_json: &[u8], n_threads: usize) -> Result<Vec<Vec<u32>>> {
    let encode = |share: &[&str]| -> Result<Vec<Vec<u32>>> {
        let tokenizer = Tokenizer::from_tokenizer_json(tokenizer_json)?;
        share.iter().map(|text| Ok(tokenizer.encode_continuation(text)?)).collect()
    };
    let encode = &encode;
    std::thread::scope(|scope| {
        let shares = texts.chunks(texts.len().div_ceil(n_threads.max(1)).max(1));
        let threads: Vec<_> = shares.map(|share| scope.spawn(move || encode(share))).collect();
        let mut all = Vec::with_capacity(texts.len());
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn open(path: &Path, origin: &Origin) -> Result<TokenFile> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the file was written whole under another name and moved here; nothing of this crate changes it after that.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    let expected = origin.n_tokens * origin.bytes_per_token;
    if map.len() != expected {
        return Err(Error::file(path, format!("{expected} bytes"), map.len().to_string()));
    }
    Ok(TokenFile { map, bytes_per_token: origin.bytes_per_token, n_text_bytes: origin.n_text_bytes })
}
