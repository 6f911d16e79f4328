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
        match self.give(engine, number, &sum).await {
            Ok(()) | Err(Error::DeviceLost(_)) => self.sums.borrow_mut().insert(number, sum),
            Err(error) => return Err(error),
        };
        Ok(number)
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
        let sums = self.sums.borrow().clone();
        for (number, sum) in sums {
            if self.has(number) {
                self.give(engine, number, &sum).await?;
            }
            if !self.has(number) {
                engine.free_adapter(number); // given up meanwhile
            }
        }
        Ok(())
    }

    fn has(&self, number: usize) -> bool {
        self.sums.borrow().contains_key(&number)
    }

    fn next(&self) -> usize {
        self.n_given.replace(self.n_given.get() + 1)
    }

    async fn give<E: Engine>(&self, engine: &E, number: usize, sum: &[(usize, f32)]) -> Result<()> {
        let found = |(number, weight): &(usize, f32)| {
            let adapter = self.read.borrow().get(number).cloned();
            Ok((adapter.ok_or_else(|| Error::InvalidState(format!("adapter {number} is gone")))?, *weight))
        };
        let found = sum.iter().map(found).collect::<Result<Vec<_>>>()?;
        let sum: Vec<(&Adapter, f32)> = found.iter().map(|(adapter, weight)| (&**adapter, *weight)).collect();
        engine.add_adapter(number, &sum).await
    }
}
