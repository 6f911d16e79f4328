//! A safetensors file as its bytes arrive: the header is held, of the tensors nothing.

use std::collections::VecDeque;

use super::safetensors::{Header, PREFIX_BYTES, TensorInfo};
use super::stored_dtype::{Numbers, StoredDtype};
use super::tensor_file::{ListedTensor, ModelTensors, TensorFile, fill};
use crate::error::{Error, Result, excerpt};

/// A file that is being read.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    file: String,
    file_bytes: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Gathers the header's length, then its JSON.
    Header(Vec<u8>),
    /// Reads `rest[0]`, of which `n_read` bytes have come. `rest` is never empty, nor is its first tensor.
    Body { rest: VecDeque<Part>, n_read: u64 },
    /// Nothing may follow.
    End,
}

/// One tensor's part of the file.
#[derive(Debug)]
struct Part {
    info: TensorInfo,
    /// Its place in the list.
    index: usize,
    /// What reads its numbers, if they are wanted.
    numbers: Option<Numbers>,
}

impl SafetensorsFile {
    pub fn new(file: &str, file_bytes: Option<u64>) -> Self {
        Self { file: file.to_string(), file_bytes, state: State::Header(Vec::new()) }
    }

    fn write_header(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        let State::Header(held) = &mut self.state else { return Ok(0) };
        let mut n_taken = fill(held, bytes, PREFIX_BYTES);
        let Some(prefix) = held.first_chunk::<PREFIX_BYTES>() else { return Ok(n_taken) };
        let n_json = Header::json_bytes(*prefix, &self.file, self.file_bytes)?;
        n_taken += fill(held, &bytes[n_taken..], PREFIX_BYTES + n_json);
        if held.len() == PREFIX_BYTES + n_json {
            let header = Header::from_json(&held[PREFIX_BYTES..], &self.file, self.file_bytes)?;
            let listed = |t: &TensorInfo| ListedTensor {
                name: t.name.clone(),
                dtype: t.dtype.clone(),
                shape: t.shape.clone(),
                same_as: None,
            };
            let wanted = model.list(&header.tensors.iter().map(listed).collect::<Vec<_>>())?;
            let part = |(index, (info, is_wanted)): (usize, (TensorInfo, bool))| {
                let dtype = StoredDtype::from_name(&info.dtype).filter(|_| is_wanted);
                Part { info, index, numbers: dtype.map(|dtype| Numbers::new(dtype, false)) }
            };
            self.begin_part(header.tensors.into_iter().zip(wanted).enumerate().map(part).collect(), model)?;
        }
        Ok(n_taken)
    }

    fn write_body(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        let State::Body { rest, n_read } = &mut self.state else { return Ok(0) };
        let Part { info, numbers, .. } = &mut rest[0];
        let n_left = info.end - info.begin - *n_read;
        let n_taken = usize::try_from(n_left).unwrap_or(usize::MAX).min(bytes.len());
        *n_read += n_taken as u64;
        let is_whole = n_taken as u64 == n_left;
        if let Some(numbers) = numbers {
            model.values(&numbers.of(&bytes[..n_taken]))?;
            if is_whole {
                model.end()?;
            }
        }
        if is_whole {
            rest.pop_front();
            let rest = std::mem::take(rest);
            self.begin_part(rest, model)?;
        }
        Ok(n_taken)
    }

    /// Goes on to the first tensor of `rest` that has bytes at all.
    fn begin_part(&mut self, mut rest: VecDeque<Part>, model: &mut dyn ModelTensors) -> Result<()> {
        while rest.front().is_some_and(|part| part.info.begin == part.info.end) {
            rest.pop_front();
        }
        if let Some(part) = rest.front().filter(|part| part.numbers.is_some()) {
            model.begin(part.index)?;
        }
        self.state = if rest.is_empty() { State::End } else { State::Body { rest, n_read: 0 } };
        Ok(())
    }
}

impl TensorFile for SafetensorsFile {
    fn write(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        match self.state {
            State::Header(_) => self.write_header(bytes, model),
            State::Body { .. } => self.write_body(bytes, model),
            State::End => {
                Err(Error::file(&self.file, "an end after the last tensor", format!("{} bytes more", bytes.len())))
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        match &self.state {
            State::End => Ok(()),
            State::Header(held) => {
                let found = format!("an end after {} bytes", held.len());
                Err(Error::file(&self.file, "a whole safetensors header", found))
            }
            State::Body { rest, n_read } => {
                let info = &rest[0].info;
                let found = format!("the end of the file after {n_read}");
                let expected = format!("{} bytes", info.end - info.begin);
                Err(Error::tensor(&self.file, excerpt(&info.name), expected, found))
            }
        }
    }
}
