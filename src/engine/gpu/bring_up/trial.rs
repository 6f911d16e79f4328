//! What has to happen on a GPU before a model there can be trusted, step by step while the weights arrive: tuning,
//! compiling the model's pipelines, and a known-answer test. The test's model has pipelines of its own, since sizes are
//! constants of a shader.

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
    /// How work is spread over threads is decided.
    Tuned,
    /// A pipeline was compiled.
    Compiled,
    /// The known-answer test has passed.
    Tested,
}

/// The steps that are left before a model on a GPU can be used.
pub struct Trial {
    /// `None` after the last step, so that the caller's `Rc` is the only one again.
    model: RefCell<Option<Rc<GpuLoader>>>,
    /// The model of the known-answer test, until the test has run.
    test: Cell<Option<GpuLoader>>,
    outcome: RefCell<Option<String>>,
    how: Cell<TuningSource>,
    found: Cell<Option<Tuning>>,
}

/// Where the tuning comes from.
#[derive(Clone, Copy)]
pub enum TuningSource {
    /// This one: an earlier visit's, or the default.
    Known(Tuning),
    /// It is to be measured. The clock gives milliseconds from any origin.
    Measured(fn() -> f64),
    /// It has been decided already.
    Done,
}

impl Trial {
    /// Loads the test's model beside `model`, in the same format and with the same nonlinearity.
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

    /// Sets where the tuning comes from; the default tuning if this is not called before the first step.
    pub fn set_tuning(&self, how: TuningSource) {
        self.how.set(how);
    }

    /// The tuning that was measured, to be stored.
    pub fn found(&self) -> Option<Tuning> {
        self.found.get()
    }

    /// How many pipelines are still to be compiled; known after [`BringUpStep::Tuned`].
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
    /// [`Error::GpuOutOfMemory`], [`Error::DeviceLost`].
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
                // this GPU fails with one of the measured sizes; the next steps show whether it can run the default
                // ones
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
            model.start_compiling(); // continues during the test
            if !is_compiled {
                self.test.set(Some(test));
                return Ok(Some(BringUpStep::Compiled));
            }
            let dtype = test.layout().dtype;
            let engine = test.finish().await?;
            let wrong = |e: Error| match e {
                Error::DeviceLost(_) | Error::GpuOutOfMemory { .. } => e,
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
