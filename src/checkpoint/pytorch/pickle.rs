//! Runs a pickle whose values are names, numbers, containers and views of storages. It calls nothing of Python's: what a
//! name of the list in [`super::globals`] does is written in [`super::rebuild`].

use std::collections::HashMap;

use super::globals::{self, Global};
use super::opcodes::{self, Instruction};
use super::view::{Storage, Tensor};
use crate::error::{Error, Result, excerpt};

/// Values that a pickle may make, and bytes that it may have. A state dict of a thousand blocks has a tenth of that.
pub(super) const MAX_VALUES: usize = 1 << 20;
const MAX_PICKLE_BYTES: usize = 1 << 23;

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

/// A pickle that is being run, as its bytes arrive.
#[derive(Debug)]
pub(super) struct Pickle {
    file: String,
    /// The first bytes of an instruction whose last ones have not come yet.
    held: Vec<u8>,
    n_read: usize,
    /// Values that calls have copied.
    pub(super) n_copied: usize,
    pub values: Vec<Value>,
    pub storages: Vec<Storage>,
    pub(super) storage_by_key: HashMap<String, usize>,
    pub(super) stack: Vec<Place>,
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

    /// The value, if it is a text.
    pub fn text(&self, place: Place) -> Option<&str> {
        match &self.values[place] {
            Value::Text(text) => Some(text),
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
            I::Global(module, name) => self.push(Value::Global(self.global(&module, &name)?))?,
            I::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.text(module), self.text(name)) {
                    (Some(module), Some(name)) => self.push(Value::Global(self.global(module, name)?))?,
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

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
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

    /// What a name stands for.
    fn global(&self, module: &str, name: &str) -> Result<Global> {
        globals::find(module, name).ok_or_else(|| {
            let name = excerpt(&globals::full_name(module, name));
            let found = format!("`{name}`, which is refused: a pickle's names can run code");
            self.wrong("a state dict, which needs tensors and dictionaries alone", &found)
        })
    }

    pub(super) fn wrong(&self, expected: &str, found: &str) -> Error {
        Error::file(&self.file, expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A storage of eight bytes, pushed.
    const STORAGE: &[u8] = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQ";

    fn run(bytes: &[u8]) -> Result<Value> {
        let mut pickle = Pickle::new("f");
        let (_, top) = pickle.write(bytes)?;
        Ok(pickle.values[top.expect("its end")].clone())
    }

    #[test]
    fn every_way_to_make_a_tensor() {
        let view = b"K\0K\x02\x85K\x01\x85";
        let plain = [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], STORAGE, view, b"\x89}tR"].concat();
        let bytes = [&b"(U\x07storagectorch.storage\nUntypedStorage\n"[..], b"U\x010U\x03cpuK\x08tQ"].concat();
        let third = [&b"ctorch._utils\n_rebuild_tensor_v3\n("[..], &bytes, view, b"\x89}ctorch\nfloat32\ntR"].concat();
        let parameter = [&b"ctorch._utils\n_rebuild_parameter\n("[..], &plain, b"\x88}tR"].concat();
        let from_type = [
            &b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n("[..],
            STORAGE,
            view,
            b"\x89}t}tR",
        ]
        .concat();
        for pickle in [plain, third, parameter, from_type] {
            match run(&[&pickle[..], b"."].concat()).unwrap() {
                Value::Tensor(tensor) => assert_eq!((tensor.shape, tensor.dtype.name), (vec![2], "F32")),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn views_beyond_their_storage_are_refused() {
        for view in [
            &b"K\x01K\x02\x85K\x01\x85"[..],                             // an offset
            b"K\0K\x02\x85K\x02\x85",                                    // a stride
            b"K\0K\x02K\x02\x86K\x01\x85",                               // not as many strides as dimensions
            b"K\0J\xff\xff\xff\xff\x85K\x01\x85",                        // a negative size
            b"K\0\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85K\x03\x85", // a place that cannot be counted
        ] {
            let pickle = [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], STORAGE, view, b"\x89}tR."].concat();
            assert!(run(&pickle).is_err(), "{view:?}");
        }
    }

    #[test]
    fn depth_and_loops_do_no_harm() {
        let deep = [&b")"[..], &vec![0x85; 200_000], b"."].concat();
        assert!(matches!(run(&deep), Ok(Value::Tuple(_))));
        // a list that holds itself
        assert!(matches!(run(b"]q\0h\0a."), Ok(Value::List(_))));
        for wrong in [&b"R."[..], b".", b"(.", b"t.", b"h\x07.", b"}K\x01s.", b"]K\x01K\x02s.", b"(K\x01d.", b"K\x01Q."]
        {
            assert!(run(wrong).is_err(), "{wrong:?}");
        }
    }
}
