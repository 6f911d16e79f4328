//! The adapters of a model: those that were read, and which sums of them its engine has.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::adapter::Adapter;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// The adapters of a model, by number. A number is never given twice.
#[derive(Default)]
pub struct Adapters {
    /// What was read.
    read: RefCell<BTreeMap<usize, Rc<Adapter>>>,
    /// What the engine has: sums of those that were read, each with its weight.
    sums: RefCell<BTreeMap<usize, Vec<(usize, f32)>>>,
    n_given: Cell<usize>,
}

impl Adapters {
    /// Keeps an adapter that was read. → its number
    pub fn keep(&self, adapter: Adapter) -> usize {
        let number = self.next();
        self.read.borrow_mut().insert(number, Rc::new(adapter));
        number
    }

    /// Has the engine compute the sum of adapters that were read, each with its weight. If its device is lost, whoever
    /// moves the texts to another takes the sum along. → the number of the sum
    ///
    /// # Errors
    /// [`Error::InvalidState`] if one of them was given up, and those of [`Engine::add_adapter`].
    pub async fn add<E: Engine>(&self, engine: &E, sum: Vec<(usize, f32)>) -> Result<usize> {
        let number = self.next();
        self.sums.borrow_mut().insert(number, sum);
        match self.give(engine, number).await {
            Ok(()) | Err(Error::DeviceLost(_)) => Ok(number),
            Err(error) => {
                self.sums.borrow_mut().remove(&number);
                Err(error)
            }
        }
    }

    /// Gives up an adapter that was read, or a sum. Texts that are computed with a sum go on with it.
    pub fn free<E: Engine>(&self, engine: &E, number: usize) {
        self.read.borrow_mut().remove(&number);
        if self.sums.borrow_mut().remove(&number).is_some() {
            engine.free_adapter(number);
        }
    }

    /// Gives all that another engine with the same model has to this one, under the same numbers.
    ///
    /// # Errors
    /// Those of [`Engine::add_adapter`].
    pub async fn take_over<E: Engine>(&self, engine: &E, other: &Self) -> Result<()> {
        self.read.replace(other.read.take());
        self.n_given.set(other.n_given.get());
        self.sums.replace(other.sums.take());
        let numbers: Vec<usize> = self.sums.borrow().keys().copied().collect();
        for number in numbers {
            self.give(engine, number).await?;
        }
        Ok(())
    }

    fn next(&self) -> usize {
        self.n_given.replace(self.n_given.get() + 1)
    }

    /// Gives the engine a sum, unless that is given up before or meanwhile.
    async fn give<E: Engine>(&self, engine: &E, number: usize) -> Result<()> {
        let mut parts = Vec::new();
        for (part, weight) in self.sums.borrow().get(&number).into_iter().flatten() {
            let gone = || Error::InvalidState(format!("adapter {part} is gone"));
            parts.push((self.read.borrow().get(part).cloned().ok_or_else(gone)?, *weight));
        }
        let sum: Vec<(&Adapter, f32)> = parts.iter().map(|(adapter, weight)| (&**adapter, *weight)).collect();
        engine.add_adapter(number, &sum).await?;
        if !self.sums.borrow().contains_key(&number) {
            engine.free_adapter(number);
        }
        Ok(())
    }
}
