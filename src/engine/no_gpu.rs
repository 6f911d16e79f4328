//! A build without the feature `full` has these in the place of [`gpu`](super::gpu): what the web surface names of it, of
//! which no value can be made. So that surface is written once, and the compiler leaves out every branch that needs a
//! GPU. A page that can use no GPU fetches such a build, because it is much smaller.

use std::convert::Infallible;
use std::rc::Rc;

use gpt2_kernels::Dtype;

use super::interface::{Cache, Engine, Output, Rows};
use crate::checkpoint::{Activation, Config};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// A pass whose choice has not been read yet.
pub type Pending = Infallible;

/// A device.
pub struct OpenGpu {
    /// The device itself.
    pub device: Infallible,
    /// What its work goes through.
    pub queue: Infallible,
}

/// # Errors
/// [`Error::NotInThisBuild`], always.
pub async fn open() -> Result<OpenGpu> {
    Err(Error::NotInThisBuild("the GPU engine"))
}

/// Returns the device's memory: there is none.
pub fn destroy() {}

/// A model whose weights are still arriving.
pub enum GpuLoader {}

#[allow(missing_docs, clippy::missing_errors_doc)] // as in `gpu`; none can be called
impl GpuLoader {
    pub async fn new(device: Infallible, _queue: Infallible, _config: Config, _dtype: Dtype) -> Result<Self> {
        match device {}
    }

    pub fn write(&self, _offset: usize, _bytes: &[u8]) -> Result<()> {
        match *self {}
    }

    pub fn tuning_key(&self) -> String {
        match *self {}
    }

    pub fn remembered(&self, _json: &str) -> Option<Tuning> {
        match *self {}
    }

    pub async fn finish(self) -> Result<GpuEngine> {
        match self {}
    }
}

/// How work is spread over a GPU's threads.
pub enum Tuning {}

#[allow(missing_docs)] // as in `gpu`
impl Tuning {
    pub fn to_json(&self) -> String {
        match *self {}
    }
}

/// Where a tuning comes from.
pub enum TuningSource {
    /// An earlier visit.
    Known(Tuning),
    /// It is to be measured with this clock.
    Measured(fn() -> f64),
}

/// What happened last before a model could be used.
pub enum BringUpStep {
    /// It is known how work is spread over threads.
    Tuned,
    /// A pipeline was compiled.
    Compiled,
    /// The known-answer test has passed.
    Tested,
}

/// The steps that are left before a model can be used.
pub enum Trial {}

#[allow(missing_docs, clippy::missing_errors_doc)] // as in `gpu`; none can be called
impl Trial {
    pub async fn new(model: Rc<GpuLoader>, _activation: Activation) -> Result<Self> {
        match *model {}
    }

    pub fn set_tuning(&self, _how: TuningSource) {
        match *self {}
    }

    pub fn found(&self) -> Option<Tuning> {
        match *self {}
    }

    pub fn n_pipelines_left(&self) -> usize {
        match *self {}
    }

    pub async fn next(&self) -> Result<Option<BringUpStep>> {
        match *self {}
    }

    pub async fn finish(&self) -> Result<String> {
        match *self {}
    }
}

/// The keys and values of a text.
#[derive(Clone, Debug)]
pub enum GpuCache {}

impl Cache for GpuCache {
    fn n_tokens(&self) -> usize {
        match *self {}
    }

    fn n_bytes(&self) -> usize {
        match *self {}
    }

    fn truncate(&mut self, _n_tokens: usize) {
        match *self {}
    }
}

/// A model.
pub enum GpuEngine {}

#[allow(missing_docs, clippy::missing_errors_doc)] // as in `gpu`; none can be called
impl GpuEngine {
    pub fn set_clock(&self, _clock: fn() -> f64) {
        match *self {}
    }

    pub async fn warm_up(&self) -> Result<f32> {
        match *self {}
    }

    pub async fn read(&self, _offset: usize, _n_bytes: usize) -> Result<Vec<u8>> {
        match *self {}
    }

    pub fn counters(&self) {
        match *self {}
    }
}

impl Engine for GpuEngine {
    type Cache = GpuCache;
    type Pending = Pending;

    fn config(&self) -> &Config {
        match *self {}
    }

    fn new_cache(&self) -> GpuCache {
        match *self {}
    }

    async fn forward(&self, cache: &mut GpuCache, _: &[TokenId], _: Rows, _: bool) -> Result<Output> {
        match *cache {}
    }
}
