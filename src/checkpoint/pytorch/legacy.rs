//! A file of `torch.save` before PyTorch 1.6: five pickles, then each storage's size and bytes.

use super::pickle::{Pickle, Place, Value};
use super::state_dict::StateDict;
use super::storages::Storages;
use crate::checkpoint::tensor_file::{ModelTensors, TensorFile, fill};
use crate::error::{Error, Result, excerpt};

/// A file that is being read.
#[derive(Debug)]
pub(in crate::checkpoint) struct LegacyFile {
    file: String,
    /// What the fourth pickle gives.
    storages: Option<Storages>,
    /// The storages' places, in the order of the file; from the fifth pickle.
    order: Vec<usize>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// One of [`PICKLES`].
    Pickle { number: usize, pickle: Box<Pickle> },
    /// Gathers the size of the storage of that place in the order, counted in numbers.
    Size { next: usize, held: Vec<u8> },
    /// Reads its bytes.
    Storage { next: usize, n_left: u64 },
    /// Nothing may follow.
    End,
}

/// What the pickles hold.
const PICKLES: [&str; 5] = ["magic number", "protocol version", "system's numbers", "object", "storages' keys"];
const OBJECT: usize = 3;
const KEYS: usize = 4;

impl LegacyFile {
    pub fn new(file: &str) -> Self {
        let state = State::Pickle { number: 0, pickle: Box::new(Pickle::new(file)) };
        Self { file: file.to_string(), storages: None, order: Vec::new(), state }
    }

    /// A pickle has ended.
    fn take_pickle(&mut self, number: usize, pickle: Pickle, top: Place, model: &mut dyn ModelTensors) -> Result<()> {
        const PROTOCOL_VERSION: i64 = 1001;
        match number {
            1 if pickle.values[top] != Value::Int(PROTOCOL_VERSION) => {
                let expected = format!("PyTorch's protocol version {PROTOCOL_VERSION}");
                return Err(Error::file(&self.file, expected, format!("{:?}", pickle.values[top])));
            }
            OBJECT => {
                let state_dict = StateDict::new(pickle, top, &self.file)?;
                self.storages = Some(Storages::new(state_dict, &self.file, model)?);
            }
            KEYS => {
                let storages = self.storages.as_ref();
                let Value::List(keys) = &pickle.values[top] else {
                    return Err(Error::file(&self.file, "a list of the storages' keys", "another value"));
                };
                for &key in keys {
                    let key = pickle.text(key).unwrap_or_default();
                    let Some((place, _)) = storages.and_then(|storages| storages.find(key)) else {
                        let found = format!("`{}`", excerpt(key));
                        return Err(Error::file(&self.file, "a storage that the pickle names", found));
                    };
                    self.order.push(place);
                }
                return self.next_storage(0);
            }
            _ => {}
        }
        self.state = State::Pickle { number: number + 1, pickle: Box::new(Pickle::new(&self.file)) };
        Ok(())
    }

    fn next_storage(&mut self, next: usize) -> Result<()> {
        self.state = match next == self.order.len() {
            true => State::End,
            false => State::Size { next, held: Vec::new() },
        };
        Ok(())
    }
}

impl TensorFile for LegacyFile {
    fn write(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        const SIZE_BYTES: usize = 8;
        match &mut self.state {
            State::Pickle { number, pickle } => {
                let (n_taken, top) = pickle.write(bytes)?;
                if let Some(top) = top {
                    let (number, pickle) = (*number, std::mem::replace(&mut **pickle, Pickle::new("")));
                    self.take_pickle(number, pickle, top, model)?;
                }
                Ok(n_taken)
            }
            State::Size { next, held } => {
                let n_taken = fill(held, bytes, SIZE_BYTES);
                if let (Some(size), Some(storages)) = (held.first_chunk(), &mut self.storages) {
                    let (next, place) = (*next, self.order[*next]);
                    let n = u64::from_le_bytes(*size);
                    let n_left = storages.check_count(place, n)?;
                    storages.begin(place)?;
                    self.state = State::Storage { next, n_left };
                    if n_left == 0 {
                        storages.end(model)?;
                        self.next_storage(next + 1)?;
                    }
                }
                Ok(n_taken)
            }
            State::Storage { next, n_left } => {
                let n_taken = usize::try_from(*n_left).unwrap_or(usize::MAX).min(bytes.len());
                *n_left -= n_taken as u64;
                if let Some(storages) = &mut self.storages {
                    storages.write(&bytes[..n_taken], model)?;
                    if *n_left == 0 {
                        storages.end(model)?;
                        let next = *next + 1;
                        self.next_storage(next)?;
                    }
                }
                Ok(n_taken)
            }
            State::End => {
                Err(Error::file(&self.file, "an end after the last storage", format!("{} bytes more", bytes.len())))
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        let (expected, found) = match &self.state {
            State::End => return self.storages.as_ref().map_or(Ok(()), Storages::finish),
            State::Pickle { number, pickle } => {
                let expected = format!("the pickle of the {}", PICKLES[*number]);
                (expected, format!("the end of the file after {} bytes of it", pickle.n_read()))
            }
            State::Size { next, .. } => {
                let expected = format!("{} storages", self.order.len());
                (expected, format!("the end of the file after {next}"))
            }
            State::Storage { n_left, .. } => {
                ("all bytes of the storages".to_string(), format!("the end of the file {n_left} bytes before that"))
            }
        };
        Err(Error::file(&self.file, expected, found))
    }
}
