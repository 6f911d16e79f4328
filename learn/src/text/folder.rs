//! A folder of text files, plain or packed with xz: which are learnt from, and which are held out.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use gpt2_web::tokenizer::END_OF_TEXT;
use lzma_rust2::XzReader;

use crate::{Error, Result};

/// The files of a folder, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFolder {
    /// What is learnt from.
    pub train: Vec<PathBuf>,
    /// What is only measured: files whose name ends with `-valid.txt` or `-valid.txt.xz`. May be empty.
    pub held_out: Vec<PathBuf>,
}

impl TextFolder {
    /// Lists `*.txt` and `*.txt.xz`.
    ///
    /// # Errors
    /// [`Error::File`] for a folder without any text to learn from.
    pub fn list(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
            paths.push(entry.map_err(Error::io(folder))?.path());
        }
        paths.sort();
        let ends = |path: &Path, end: &str| path.to_string_lossy().trim_end_matches(".xz").ends_with(end);
        paths.retain(|path| path.is_file() && ends(path, ".txt"));
        let (held_out, train): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| ends(path, "-valid.txt"));
        if train.is_empty() {
            let expected = "files `*.txt` or `*.txt.xz` whose name does not end with `-valid`";
            return Err(Error::file(folder, expected, "none"));
        }
        Ok(Self { train, held_out })
    }
}

/// The whole text of a file, unpacked.
///
/// # Errors
/// What the system says, also of bytes that are no UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut text = String::new();
    match path.extension().is_some_and(|extension| extension == "xz") {
        true => XzReader::new(file, true).read_to_string(&mut text),
        false => { file }.read_to_string(&mut text),
    }
    .map_err(Error::io(path))?;
    Ok(text)
}

/// The texts of a file: what stands between its end-of-text tokens, without white space around it.
pub fn texts(file: &str) -> impl Iterator<Item = &str> {
    file.split(END_OF_TEXT).map(str::trim).filter(|text| !text.is_empty())
}
