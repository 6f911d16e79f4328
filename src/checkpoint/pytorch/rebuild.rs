//! What the functions and persistent ids of a state dict's pickle make: dictionaries, storages, tensors.

use super::globals::Global;
use super::pickle::{MAX_VALUES, Pickle, Place, Value};
use super::view::{Storage, Tensor};
use crate::error::Result;

/// No tensor of a GPT-2 has more than four.
const MAX_DIMENSIONS: usize = 16;
/// Bytes of a storage's name, which is a number.
const MAX_KEY_BYTES: usize = 255;

impl Pickle {
    /// Pushes what a function of the list gives.
    pub(super) fn call(&mut self, mut function: Place, mut arguments: Place) -> Result<()> {
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
    pub(super) fn storage(&mut self, id: Place) -> Result<usize> {
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
}
