//! From a GPU that is open to one that can be trusted: the model's pipelines, and a known-answer test with pipelines of its
//! own (sizes are constants of a shader), compiled step by step while the weights arrive.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gpt2_kernels::Dtype;

use crate::engine::gpu::Loader;
use crate::error::{Error, Result};
use crate::gpt2::Activation;
use crate::self_test;
use crate::weights::Packed;

/// What was done in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A pipeline was compiled.
    Compiled,
    /// The known-answer test has passed.
    Tested,
}

/// The steps that are left before a model on a GPU can be used.
pub struct Trial {
    dtype: Dtype,
    /// Let go of after the last step, so that it is its owner's alone again.
    model: RefCell<Option<Rc<Loader>>>,
    /// The test's model, until it has been run.
    test: Cell<Option<Loader>>,
    outcome: RefCell<Option<String>>,
    n_pipelines: usize,
}

impl Trial {
    /// Puts the test's model beside the one to come, in the same format and with the same nonlinearity.
    ///
    /// # Errors
    /// Those of [`Loader::new`] and [`Loader::write`].
    pub async fn new(model: Rc<Loader>, activation: Activation, dtype: Dtype) -> Result<Self> {
        let test = model.beside(self_test::config(activation)?, dtype).await?;
        self_test::write(Packed::new(test.layout().clone(), |offset, bytes| test.write(offset, bytes)))?;
        let n_pipelines = test.n_pipelines() + model.n_pipelines();
        let (model, test) = (RefCell::new(Some(model)), Cell::new(Some(test)));
        Ok(Self { dtype, model, test, outcome: RefCell::default(), n_pipelines })
    }

    /// How many pipelines there are to compile.
    pub fn n_pipelines(&self) -> usize {
        self.n_pipelines
    }

    /// Does the next step. → `None` if there was none left
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] for a GPU that does not compile what it has to or computes wrong numbers,
    /// [`Error::DeviceLost`].
    pub async fn next(&self) -> Result<Option<Step>> {
        let Some(model) = self.model.borrow().clone() else { return Ok(None) };
        if let Some(test) = self.test.take() {
            let is_compiled = !test.compile_next().await?;
            model.start_compiling(); // goes on beside the test
            if !is_compiled {
                self.test.set(Some(test));
                return Ok(Some(Step::Compiled));
            }
            let engine = test.finish().await?;
            let wrong = |e: Error| match e {
                Error::DeviceLost(_) => e,
                e => Error::WebGpuNotAvailable(e.to_string()),
            };
            engine.warm_up().await.map_err(wrong)?;
            *self.outcome.borrow_mut() = Some(self_test::run(&engine, self.dtype).await.map_err(wrong)?);
            return Ok(Some(Step::Tested));
        }
        if model.compile_next().await? {
            return Ok(Some(Step::Compiled));
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
