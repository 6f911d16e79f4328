//! From a GPU that is open to one that can be trusted: how its work is best spread, the model's pipelines, and a known-answer
//! test with pipelines of its own (sizes are constants of a shader), step by step while the weights arrive.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::load::GpuLoader;
use crate::checkpoint::Activation;
use crate::checkpoint::PackingSink;
use crate::engine::gpu::kernels::Tuning;
use crate::engine::self_test;
use crate::error::{Error, Result};

/// What was done in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BringUpStep {
    /// TuningSource work is spread over threads is decided.
    Tuned,
    /// A pipeline was compiled.
    Compiled,
    /// The known-answer test has passed.
    Tested,
}

/// The steps that are left before a model on a GPU can be used.
pub struct Trial {
    /// Let go of after the last step, so that it is its owner's alone again.
    model: RefCell<Option<Rc<GpuLoader>>>,
    /// The test's model, until it has been run.
    test: Cell<Option<GpuLoader>>,
    outcome: RefCell<Option<String>>,
    how: Cell<TuningSource>,
    found: Cell<Option<Tuning>>,
}

/// Where the tuning comes from.
#[derive(Clone, Copy)]
pub enum TuningSource {
    /// It is this one: an earlier visit's, or the default.
    Known(Tuning),
    /// It is measured; the clock tells milliseconds from any origin.
    Measured(fn() -> f64),
    /// It is decided.
    Done,
}

impl Trial {
    /// Puts the test's model beside the one to come, in the same format and with the same nonlinearity.
    ///
    /// # Errors
    /// Those of [`GpuLoader::new`] and [`GpuLoader::write`].
    pub async fn new(model: Rc<GpuLoader>, activation: Activation) -> Result<Self> {
        let dtype = model.layout().dtype;
        let test = model.beside(self_test::config(activation)?, dtype).await?;
        self_test::write(PackingSink::new(test.layout().clone(), |offset, bytes| test.write(offset, bytes)))?;
        Ok(Self {
            model: RefCell::new(Some(model)),
            test: Cell::new(Some(test)),
            outcome: RefCell::default(),
            how: Cell::new(TuningSource::Known(Tuning::default())),
            found: Cell::default(),
        })
    }

    /// Says where the tuning is to come from, before the first step; else it is the default.
    pub fn set_tuning(&self, how: TuningSource) {
        self.how.set(how);
    }

    /// What was measured, to be remembered.
    pub fn found(&self) -> Option<Tuning> {
        self.found.get()
    }

    /// TuningSource many pipelines are to be compiled yet; known after [`BringUpStep::Tuned`].
    pub fn n_pipelines_left(&self) -> usize {
        let test = self.test.take();
        let n_of_test = test.as_ref().map_or(0, GpuLoader::n_pipelines_left);
        self.test.set(test);
        n_of_test + self.model.borrow().as_ref().map_or(0, |model| model.n_pipelines_left())
    }

    /// Does the next step. → `None` if there was none left
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] for a GPU that does not compile what it has to or computes wrong numbers,
    /// [`Error::DeviceLost`].
    pub async fn next(&self) -> Result<Option<BringUpStep>> {
        let Some(model) = self.model.borrow().clone() else { return Ok(None) };
        let tuning = match self.how.replace(TuningSource::Done) {
            TuningSource::Done => None,
            TuningSource::Known(tuning) => Some(tuning),
            TuningSource::Measured(clock) => match model.search(clock).await {
                Ok(tuning) => {
                    self.found.set(Some(tuning));
                    Some(tuning)
                }
                Err(lost @ Error::DeviceLost(_)) => return Err(lost),
                // a size that this GPU cannot do; whether it can do the default is found out next
                Err(_) => Some(Tuning::default()),
            },
        };
        if let Some(tuning) = tuning {
            model.prepare(tuning).await?;
            if let Some(test) = self.test.take() {
                test.prepare(tuning).await?;
                self.test.set(Some(test));
            }
            return Ok(Some(BringUpStep::Tuned));
        }
        if let Some(test) = self.test.take() {
            let is_compiled = !test.compile_next().await?;
            model.start_compiling(); // goes on beside the test
            if !is_compiled {
                self.test.set(Some(test));
                return Ok(Some(BringUpStep::Compiled));
            }
            let dtype = test.layout().dtype;
            let engine = test.finish().await?;
            let wrong = |e: Error| match e {
                Error::DeviceLost(_) => e,
                e => Error::WebGpuNotAvailable(e.to_string()),
            };
            engine.warm_up().await.map_err(wrong)?;
            *self.outcome.borrow_mut() = Some(self_test::run(&engine, dtype).await.map_err(wrong)?);
            return Ok(Some(BringUpStep::Tested));
        }
        if model.compile_next().await? {
            return Ok(Some(BringUpStep::Compiled));
        }
        *self.model.borrow_mut() = None;
        Ok(None)
    }

    /// Does all steps that are left. → what the test said
    ///
    /// # Errors
    /// As [`Self::next`]; [`Error::InvalidState`] after a step that failed.
    pub async fn finish(&self) -> Result<String> {
        while self.next().await?.is_some() {}
        let untested = || Error::InvalidState("the GPU has not passed its self-test".into());
        self.outcome.borrow().clone().ok_or_else(untested)
    }
}
