//! The kernels as a part of this program, with one thread: for tests, benches and tools.

use std::cell::RefCell;
use std::rc::Rc;

use gpt2_kernels::cache::Cache;
use gpt2_kernels::scratch::Scratch;
use gpt2_kernels::{Dtype, PackedModel};

use super::engine::CpuEngine;
use super::kernels::Kernels;
use crate::checkpoint::Config;
use crate::checkpoint::packing::{layout, out_of_memory};
use crate::checkpoint::{CheckpointReader, PackingSink, TensorSink};
use crate::engine::{Output, Rows};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// The kernels and a model in this process's memory.
pub struct Linked {
    model: PackedModel,
    scratch: RefCell<Scratch>,
    /// The caches by their number; `None` where one was freed.
    caches: RefCell<Vec<Option<Cache>>>,
    /// The output of the pass that `begin` ran. There is no page that must stay responsive, so it runs as a whole.
    output: RefCell<Option<Output>>,
}

impl CpuEngine<Linked> {
    /// Loads a model in this format. `read` writes the checkpoint to the reader that it is given. → the engine, and what
    /// of the files is left out or replaced, one sentence each
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], and those of `read`.
    pub fn load(
        config: Config,
        dtype: Dtype,
        read: impl FnOnce(&mut CheckpointReader<Box<dyn TensorSink + '_>>) -> Result<()>,
    ) -> Result<(Self, Vec<String>)> {
        let mut model = PackedModel::new(config.dims(), dtype).ok_or_else(|| out_of_memory(&config, dtype))?;
        let image = model.image_mut();
        let packed = PackingSink::new(layout(&config, dtype)?, |offset, bytes| {
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        });
        let mut stream = CheckpointReader::new(config.clone(), Box::new(packed) as Box<dyn TensorSink>);
        read(&mut stream)?;
        let (_, warnings) = stream.finish()?;
        let scratch = RefCell::new(model.scratch(1));
        let linked = Linked { model, scratch, caches: RefCell::default(), output: RefCell::default() };
        Ok((Self::new(config, Rc::new(linked)), warnings))
    }
}

impl Linked {
    fn keep(&self, cache: Cache) -> usize {
        let mut caches = self.caches.borrow_mut();
        let free = caches.iter().position(Option::is_none).unwrap_or(caches.len());
        match caches.get_mut(free) {
            Some(place) => *place = Some(cache),
            None => caches.push(Some(cache)),
        }
        free
    }

    fn with<T>(&self, cache: usize, f: impl FnOnce(&mut Cache) -> T) -> Option<T> {
        self.caches.borrow_mut().get_mut(cache)?.as_mut().map(f)
    }
}

impl Kernels for Linked {
    fn new_cache(&self) -> usize {
        self.keep(self.model.new_cache())
    }

    fn clone_cache(&self, cache: usize) -> Option<usize> {
        self.with(cache, |c| c.clone()).map(|c| self.keep(c))
    }

    fn truncate_cache(&self, cache: usize, n_tokens: usize) {
        self.with(cache, |c| c.truncate(n_tokens));
    }

    fn free_cache(&self, cache: usize) {
        if let Some(place) = self.caches.borrow_mut().get_mut(cache) {
            *place = None;
        }
    }

    fn begin(&self, cache: usize, ids: &[TokenId], rows: Rows, with_attentions: bool) -> Result<()> {
        let run = |cache: &mut Cache| {
            self.model.forward_alone(&mut self.scratch.borrow_mut(), cache, ids, rows, with_attentions)
        };
        let output = self.with(cache, run).ok_or_else(|| Error::InvalidState(format!("cache {cache} is freed")))?;
        let attentions = with_attentions.then_some(output.attentions);
        *self.output.borrow_mut() = Some(Output { logits: output.logits, attentions });
        Ok(())
    }

    fn advance(&self) -> Result<Option<Output>> {
        Ok(self.output.take())
    }

    async fn pause(&self) -> Result<()> {
        Ok(())
    }
}
