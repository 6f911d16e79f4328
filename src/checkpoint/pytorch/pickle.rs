//! Runs a pickle whose values are names, numbers, containers and views of storages. It calls nothing: what a name of the
//! list in [`super::globals`] would do in Python is written here.

use std::collections::HashMap;

use super::globals::{self, Global, TorchDtype};
use super::opcodes::{self, Instruction};
use crate::error::{Error, Result, excerpt};

/// Values that a pickle may make, and bytes that it may have. A state dict of a thousand blocks has a tenth of that.
const MAX_VALUES: usize = 1 << 20;
const MAX_PICKLE_BYTES: usize = 1 << 25;

/// PyTorch itself has no more, and no GPT-2 more than four.
const MAX_DIMENSIONS: usize = 64;
/// Bytes of a storage's name, which is a number.
const MAX_KEY_BYTES: usize = 255;

/// A value's place. Values lie in one list and name each other by place: no depth of nesting is a depth of calls.
pub(super) type Place = usize;

/// A value that a pickle makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Int(i64),
    Text(String),
    Tuple(Vec<Place>),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    Global(Global),
    /// Its place among the storages.
    Storage(usize),
    Tensor(Tensor),
    /// What no tensor is made of.
    Other,
}

/// Numbers that tensors are views of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Its name in the file.
    pub key: String,
    pub n_bytes: u64,
    /// What its numbers are, unless they are only bytes.
    pub dtype: Option<TorchDtype>,
}

/// A view of a storage, which it lies within.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: usize,
    pub dtype: TorchDtype,
    /// Where its first number is, counted in numbers.
    pub offset: u64,
    pub shape: Vec<usize>,
    /// How far apart neighbours are along each dimension, counted in numbers.
    pub strides: Vec<usize>,
}

/// A pickle that is being run, as its bytes arrive.
#[derive(Debug)]
pub(super) struct Pickle {
    file: String,
    /// The first bytes of an instruction whose last ones have not come yet.
    held: Vec<u8>,
    n_read: usize,
    /// Values that calls have copied.
    n_copied: usize,
    pub values: Vec<Value>,
    pub storages: Vec<Storage>,
    storage_by_key: HashMap<String, usize>,
    stack: Vec<Place>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Place>,
}

impl Pickle {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_string(),
            held: Vec::new(),
            n_read: 0,
            n_copied: 0,
            values: Vec::new(),
            storages: Vec::new(),
            storage_by_key: HashMap::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs the next bytes. → how many belong to it, and its value if it has ended
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names what is no part of a state dict.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(usize, Option<Place>)> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((instruction, n)) = opcodes::next(&held[at..], &self.file)? {
            at += n;
            self.n_read += n;
            if self.n_read > MAX_PICKLE_BYTES {
                return Err(self.wrong(&format!("a pickle of at most {MAX_PICKLE_BYTES} bytes"), "a longer one"));
            }
            if instruction == Instruction::Stop {
                let value = self.pop()?;
                // what was held had no end in it, so what is left is the end of `bytes`
                return Ok((bytes.len() - (held.len() - at), Some(value)));
            }
            self.run(instruction)?;
        }
        held.drain(..at);
        self.held = held;
        Ok((bytes.len(), None))
    }

    /// Its bytes so far.
    pub fn n_read(&self) -> usize {
        self.n_read
    }

    /// The value in the words of Rust, where it is one of these.
    pub fn text(&self, place: Place) -> Option<&str> {
        match &self.values[place] {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn whole(&self, place: Place) -> Option<u64> {
        match self.values[place] {
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    fn wholes(&self, place: Place) -> Option<Vec<usize>> {
        match &self.values[place] {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_DIMENSIONS => {
                items.iter().map(|&item| usize::try_from(self.whole(item)?).ok()).collect()
            }
            _ => None,
        }
    }

    fn run(&mut self, instruction: Instruction) -> Result<()> {
        use Instruction as I;
        match instruction {
            I::Nothing | I::Stop => {}
            I::Mark => self.marks.push(self.stack.len()),
            I::Pop if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            I::Pop => drop(self.pop()?),
            I::PopMark => drop(self.above_mark()?),
            I::Duplicate => {
                let top = self.top()?;
                self.stack.push(top);
            }
            I::None => self.push(Value::None)?,
            I::Bool(_) | I::Other => self.push(Value::Other)?,
            I::Int(number) => self.push(Value::Int(number))?,
            I::Text(text) => self.push(Value::Text(text))?,
            I::EmptyTuple => self.push(Value::Tuple(Vec::new()))?,
            I::TupleOf(n) => {
                let mut items = vec![0; n];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push(Value::Tuple(items))?;
            }
            I::Tuple => {
                let items = self.above_mark()?;
                self.push(Value::Tuple(items))?;
            }
            I::EmptyList | I::EmptySet => self.push(Value::List(Vec::new()))?,
            I::List | I::FrozenSet => {
                let items = self.above_mark()?;
                self.push(Value::List(items))?;
            }
            I::Append => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            I::Appends | I::AddItems => {
                let items = self.above_mark()?;
                self.extend_list(items)?;
            }
            I::EmptyDict => self.push(Value::Dict(Vec::new()))?,
            I::Dict => {
                let items = self.above_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.extend_dict(&items)?;
            }
            I::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            I::SetItems => {
                let items = self.above_mark()?;
                self.extend_dict(&items)?;
            }
            I::Global(module, name) => self.global(&module, &name)?,
            I::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.text(module), self.text(name)) {
                    (Some(module), Some(name)) => self.global(&module.to_string(), &name.to_string())?,
                    _ => return Err(self.wrong("names of a module and a thing in it", "other values")),
                }
            }
            I::Call => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            // what an object is told of itself: the versions of a state dict's modules, hooks
            I::Build => drop(self.pop()?),
            I::PersistentId => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))?;
            }
            I::Put(number) => drop(self.memo.insert(number, self.top()?)),
            I::Memoize => drop(self.memo.insert(self.memo.len() as u32, self.top()?)),
            I::Get(number) => {
                let value = self.memo.get(&number).copied();
                self.stack.push(value.ok_or_else(|| self.wrong("a number of the memo", &number.to_string()))?);
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() == MAX_VALUES {
            return Err(self.wrong(&format!("a pickle of at most {MAX_VALUES} values"), "more"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Place> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > floor {
            true => Ok(self.stack.pop().unwrap_or_default()),
            false => Err(self.wrong("a value on the pickle's stack", "none")),
        }
    }

    fn top(&self) -> Result<Place> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.copied().ok_or_else(|| self.wrong("a value on the pickle's stack", "none"))
    }

    fn above_mark(&mut self) -> Result<Vec<Place>> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("a mark on the pickle's stack", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn extend_list(&mut self, items: Vec<Place>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            Value::Other => {}
            _ => return Err(self.wrong("a list to add to", "another value")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Place]) -> Result<()> {
        let dict = self.top()?;
        match (&mut self.values[dict], items.as_chunks::<2>()) {
            (Value::Dict(dict), (pairs, [])) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            (Value::Other, _) => {}
            _ => return Err(self.wrong("a dictionary and pairs for it", "other values")),
        }
        Ok(())
    }

    /// Pushes what a name stands for.
    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        match globals::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let name = excerpt(&globals::full_name(module, name));
                let found = format!("`{name}`, which is refused: a pickle's names can run code");
                Err(self.wrong("a state dict, which needs tensors and dictionaries alone", &found))
            }
        }
    }

    /// Pushes what a function of the list gives.
    fn call(&mut self, mut function: Place, mut arguments: Place) -> Result<()> {
        loop {
            let (Value::Global(global), Value::Tuple(items)) = (&self.values[function], &self.values[arguments]) else {
                return Err(self.wrong("a name and a tuple, to call it with", "other values"));
            };
            let value = match (global, items.as_slice()) {
                (Global::OrderedDict, []) => Value::Dict(Vec::new()),
                (Global::OrderedDict, &[items]) => self.dict_of(items)?,
                (Global::Size, []) => Value::Tuple(Vec::new()),
                (Global::Size | Global::RebuildParameter, &[value, ..]) => {
                    self.stack.push(value);
                    return Ok(());
                }
                (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                    Value::Tensor(self.tensor(storage, offset, shape, strides, None)?)
                }
                (Global::RebuildTensorV3, &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                    Value::Tensor(self.tensor(storage, offset, shape, strides, Some(dtype))?)
                }
                (Global::RebuildFromType, &[inner, _, inner_arguments, ..])
                    if self.values[inner] != Value::Global(Global::RebuildFromType) =>
                {
                    (function, arguments) = (inner, inner_arguments);
                    continue;
                }
                (Global::Ignored, _) => Value::Other,
                (global, items) => {
                    let found = format!("{global:?} of {} values", items.len());
                    return Err(self.wrong("a call that makes a tensor", &found));
                }
            };
            return self.push(value);
        }
    }

    /// A dictionary of a list of pairs.
    fn dict_of(&mut self, items: Place) -> Result<Value> {
        let Value::List(items) = &self.values[items] else {
            return Err(self.wrong("a list of pairs", "another value"));
        };
        // a short call copies the list, so copies are counted
        self.n_copied += items.len();
        if self.n_copied > MAX_VALUES {
            return Err(self.wrong(&format!("a pickle of at most {MAX_VALUES} values"), "more"));
        }
        let pair = |&item: &Place| match &self.values[item] {
            Value::Tuple(pair) | Value::List(pair) => match pair.as_slice() {
                &[key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        };
        let pairs: Option<Vec<_>> = items.iter().map(pair).collect();
        pairs.map(Value::Dict).ok_or_else(|| self.wrong("a list of pairs", "another list"))
    }

    /// The storage that a persistent id names: ("storage", its class, its key, its device, how many numbers).
    fn storage(&mut self, id: Place) -> Result<usize> {
        let items = match &self.values[id] {
            Value::Tuple(items) => items.clone(),
            _ => return Err(self.wrong("a storage's persistent id", "another value")),
        };
        let parts = match items.as_slice() {
            [kind, class, key, _, n, view @ ..] if self.text(*kind) == Some("storage") => {
                // since 2017 no file has a storage that is a part of another one
                let is_whole = view.iter().all(|&view| self.values[view] == Value::None);
                self.text(*key).filter(|key| key.len() <= MAX_KEY_BYTES).zip(self.whole(*n)).zip(
                    match &self.values[*class] {
                        Value::Global(Global::Storage(dtype)) if is_whole => Some(*dtype),
                        _ => None,
                    },
                )
            }
            _ => None,
        };
        let Some(((key, n), dtype)) = parts else {
            return Err(self.wrong("a storage's class, key and size", "other values"));
        };
        let n_bytes = n.checked_mul(dtype.map_or(1, |dtype| dtype.n_bytes));
        let n_bytes = n_bytes.ok_or_else(|| self.wrong("a storage whose bytes can be counted", &n.to_string()))?;
        let storage = Storage { key: key.to_string(), n_bytes, dtype };
        if let Some(&known) = self.storage_by_key.get(&storage.key) {
            return match self.storages[known] == storage {
                true => Ok(known),
                false => Err(self.wrong(&format!("{:?}", self.storages[known]), &format!("{storage:?}"))),
            };
        }
        self.storage_by_key.insert(storage.key.clone(), self.storages.len());
        self.storages.push(storage);
        Ok(self.storages.len() - 1)
    }

    fn tensor(
        &self,
        storage: Place,
        offset: Place,
        shape: Place,
        strides: Place,
        dtype: Option<Place>,
    ) -> Result<Tensor> {
        let Value::Storage(index) = self.values[storage] else {
            return Err(self.wrong("a tensor's storage", "another value"));
        };
        let storage = &self.storages[index];
        let dtype = match dtype.map(|dtype| &self.values[dtype]) {
            Some(Value::Global(Global::Dtype(dtype))) => Some(*dtype),
            Some(_) => None,
            None => storage.dtype,
        };
        let (Some(dtype), Some(offset), Some(shape), Some(strides)) =
            (dtype, self.whole(offset), self.wholes(shape), self.wholes(strides))
        else {
            return Err(self.wrong("a tensor's number format, offset, shape and strides", "other values"));
        };
        let tensor = Tensor { storage: index, dtype, offset, shape, strides };
        if tensor.shape.len() != tensor.strides.len() || !tensor.lies_within(storage.n_bytes) {
            let found = format!("{:?} of strides {:?} from {offset}", tensor.shape, tensor.strides);
            return Err(self.wrong(&format!("a tensor within its storage of {} bytes", storage.n_bytes), &found));
        }
        Ok(tensor)
    }

    fn wrong(&self, expected: &str, found: &str) -> Error {
        Error::file(&self.file, expected, found)
    }
}

impl Tensor {
    /// How many numbers it has; `None` where they cannot be counted.
    pub fn n_values(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d as u64))
    }

    /// Whether its numbers follow each other in the storage, row-major.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        self.shape.iter().zip(&self.strides).rev().all(|(&d, &stride)| {
            let follows = d == 1 || stride as u64 == expected;
            expected = expected.saturating_mul(d as u64);
            follows
        })
    }

    fn lies_within(&self, n_bytes: u64) -> bool {
        if self.shape.contains(&0) {
            return true;
        }
        let last =
            self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (&d, &stride)| {
                (d as u64 - 1).checked_mul(stride as u64)?.checked_add(last)
            });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(self.dtype.n_bytes));
        self.n_values().is_some() && end.is_some_and(|end| end <= n_bytes)
    }
}
