//! From storages to tensors: numbers are passed on as a storage's bytes arrive. Only one is held whose tensors are not
//! stored one after the other: transposed, expanded, or two of them in the same place.

use std::collections::{HashMap, VecDeque};

use super::state_dict::StateDict;
use super::view::{Storage, Tensor};
use crate::checkpoint::stored_dtype::{Numbers, StoredDtype};
use crate::checkpoint::tensor_file::ModelTensors;
use crate::error::{Error, Result, excerpt};

/// The storages of a file, to be read in the order in which they come.
#[derive(Debug)]
pub(super) struct Storages {
    file: String,
    tensors: Vec<(String, Tensor)>,
    storages: Vec<Storage>,
    by_key: HashMap<String, usize>,
    /// The tensors of each storage that are wanted, in the order of their first number.
    wanted: Vec<Vec<usize>>,
    is_done: Vec<bool>,
    /// Whether the highest byte of a number comes first.
    pub is_big_endian: bool,
    current: usize,
    reading: Reading,
}

/// What is done with the bytes of the current storage.
#[derive(Debug)]
enum Reading {
    /// They are passed on, tensor by tensor.
    Streamed { parts: VecDeque<Part>, at: u64 },
    /// They are gathered when all are there.
    Held(Vec<u8>),
}

/// A tensor's bytes in a storage.
#[derive(Debug)]
struct Part {
    tensor: usize,
    begin: u64,
    end: u64,
    numbers: Numbers,
}

impl Storages {
    /// Tells the model what there is.
    ///
    /// # Errors
    /// Those of `model`.
    pub fn new(state_dict: StateDict, file: &str, model: &mut dyn ModelTensors) -> Result<Self> {
        let is_wanted = model.list(&state_dict.listed())?;
        let StateDict { tensors, storages, warnings } = state_dict;
        warnings.into_iter().for_each(|warning| model.warn(warning));
        let mut wanted = vec![Vec::new(); storages.len()];
        for (i, (_, tensor)) in tensors.iter().enumerate() {
            // an empty tensor has no bytes to wait for
            if is_wanted[i] && tensor.n_values() != Some(0) {
                wanted[tensor.storage].push(i);
            }
        }
        wanted.iter_mut().for_each(|of_storage| of_storage.sort_by_key(|&i| tensors[i].1.offset));
        let by_key = storages.iter().enumerate().map(|(i, storage)| (storage.key.clone(), i)).collect();
        Ok(Self {
            file: file.to_string(),
            is_done: vec![false; storages.len()],
            tensors,
            storages,
            by_key,
            wanted,
            is_big_endian: false,
            current: 0,
            reading: Reading::Streamed { parts: VecDeque::new(), at: 0 },
        })
    }

    /// The storage of that name, if a tensor is a view of it. → its place and its bytes
    pub fn find(&self, key: &str) -> Option<(usize, u64)> {
        let &storage = self.by_key.get(key)?;
        Some((storage, self.storages[storage].n_bytes))
    }

    /// Whether the bytes of one have come.
    pub fn has_begun(&self) -> bool {
        self.is_done.contains(&true)
    }

    /// The bytes that follow are those of this storage.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if they have come before.
    pub fn begin(&mut self, storage: usize) -> Result<()> {
        if std::mem::replace(&mut self.is_done[storage], true) {
            let key = &self.storages[storage].key;
            return Err(Error::file(&self.file, "each storage once", format!("`{key}` a second time")));
        }
        self.current = storage;
        self.reading = match self.parts(storage) {
            Some(parts) => Reading::Streamed { parts, at: 0 },
            None => Reading::Held(Vec::new()),
        };
        Ok(())
    }

    /// The next bytes of the storage.
    ///
    /// # Errors
    /// Those of `model`; [`Error::OutOfMemory`] if a storage has to be held and cannot be.
    pub fn write(&mut self, mut bytes: &[u8], model: &mut dyn ModelTensors) -> Result<()> {
        match &mut self.reading {
            Reading::Held(held) => {
                held.try_reserve(bytes.len()).map_err(|_| Error::OutOfMemory {
                    what: format!("a storage of {}, whose tensors are views of each other", self.file),
                    n_bytes: self.storages[self.current].n_bytes,
                })?;
                held.extend_from_slice(bytes);
            }
            Reading::Streamed { parts, at } => {
                while let Some(part) = parts.front_mut().filter(|_| !bytes.is_empty()) {
                    let is_before = *at < part.begin;
                    let n_left = if is_before { part.begin } else { part.end } - *at;
                    let n = usize::try_from(n_left).unwrap_or(usize::MAX).min(bytes.len());
                    let (taken, rest) = bytes.split_at(n);
                    if !is_before {
                        if *at == part.begin {
                            model.begin(part.tensor)?;
                        }
                        model.values(&part.numbers.of(taken))?;
                    }
                    *at += n as u64;
                    bytes = rest;
                    if *at == part.end {
                        model.end()?;
                        parts.pop_front();
                    }
                }
            }
        }
        Ok(())
    }

    /// The storage has no more bytes.
    ///
    /// # Errors
    /// Those of `model`.
    pub fn end(&mut self, model: &mut dyn ModelTensors) -> Result<()> {
        let Reading::Held(held) = &mut self.reading else { return Ok(()) };
        let held = std::mem::take(held);
        for &i in &self.wanted[self.current] {
            let tensor = &self.tensors[i].1;
            let Some(dtype) = StoredDtype::from_name(tensor.dtype.name) else { continue };
            model.begin(i)?;
            gather(tensor, dtype, &held, self.is_big_endian, model)?;
            model.end()?;
        }
        Ok(())
    }

    /// The file has no more storages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names a tensor whose storage has not come.
    pub fn finish(&self) -> Result<()> {
        for (storage, wanted) in self.wanted.iter().enumerate() {
            if let Some(&tensor) = wanted.first().filter(|_| !self.is_done[storage]) {
                let expected = format!("the storage `{}`", excerpt(&self.storages[storage].key));
                return Err(Error::tensor(&self.file, excerpt(&self.tensors[tensor].0), expected, "none of that name"));
            }
        }
        Ok(())
    }

    /// The bytes of a storage, whose size the file gives in numbers once more.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is another one.
    pub fn check_count(&self, storage: usize, n: u64) -> Result<u64> {
        let Storage { dtype, n_bytes, .. } = self.storages[storage].clone();
        let found = n.saturating_mul(dtype.map_or(1, |dtype| dtype.n_bytes));
        if found == n_bytes { Ok(n_bytes) } else { Err(self.wrong_size(storage, found)) }
    }

    /// What is wrong with the size that the file gives for a storage.
    pub fn wrong_size(&self, storage: usize, found: u64) -> Error {
        let Storage { key, n_bytes, .. } = &self.storages[storage];
        let tensor = self.wanted[storage].first().map(|&i| excerpt(&self.tensors[i].0));
        let expected = format!("{n_bytes} bytes in the storage `{}`", excerpt(key));
        match tensor {
            Some(tensor) => Error::tensor(&self.file, tensor, expected, found.to_string()),
            None => Error::file(&self.file, expected, found.to_string()),
        }
    }

    /// The wanted tensors' bytes, one tensor after the other; `None` where they do not lie like that.
    fn parts(&self, storage: usize) -> Option<VecDeque<Part>> {
        let mut parts = VecDeque::new();
        let mut next = 0;
        for &i in &self.wanted[storage] {
            let tensor = &self.tensors[i].1;
            let dtype = StoredDtype::from_name(tensor.dtype.name)?;
            let begin = tensor.offset * tensor.dtype.n_bytes;
            let end = begin + tensor.n_values()? * tensor.dtype.n_bytes;
            if !tensor.is_contiguous() || begin < next {
                return None;
            }
            next = end;
            parts.push_back(Part { tensor: i, begin, end, numbers: Numbers::new(dtype, self.is_big_endian) });
        }
        Some(parts)
    }
}

/// Passes a view's numbers on, row-major. It lies within the bytes, and its shape is one that the model expects.
fn gather(
    tensor: &Tensor,
    dtype: StoredDtype,
    bytes: &[u8],
    is_big_endian: bool,
    model: &mut dyn ModelTensors,
) -> Result<()> {
    const N_AT_ONCE: usize = 4096;
    let n = dtype.n_bytes();
    let mut numbers = Numbers::new(dtype, is_big_endian);
    let mut gathered = Vec::with_capacity(N_AT_ONCE * n);
    let mut place = vec![0; tensor.shape.len()];
    loop {
        let steps: usize = place.iter().zip(&tensor.strides).map(|(&i, &stride)| i * stride).sum();
        gathered.extend_from_slice(&bytes[(tensor.offset as usize + steps) * n..][..n]);
        if gathered.len() >= N_AT_ONCE * n {
            model.values(&numbers.of(&gathered))?;
            gathered.clear();
        }
        // on to the next place: the last dimension counts fastest
        let mut dimension = place.len();
        loop {
            if dimension == 0 {
                return model.values(&numbers.of(&gathered));
            }
            dimension -= 1;
            place[dimension] += 1;
            if place[dimension] < tensor.shape[dimension] {
                break;
            }
            place[dimension] = 0;
        }
    }
}
