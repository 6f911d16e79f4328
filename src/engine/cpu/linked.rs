//! The kernels as a part of this program, with one thread: for tests, benches and tools.

use std::cell::RefCell;
use std::rc::Rc;

use gpt2_kernels::cache::Cache;
use gpt2_kernels::scratch::Scratch;
use gpt2_kernels::{Dtype, Forward, PackedModel};

use super::engine::CpuEngine;
use super::kernels::{Kernels, Text};
use crate::checkpoint::Config;
use crate::checkpoint::packing::{layout, out_of_memory};
use crate::checkpoint::{CheckpointReader, PackingSink, TensorSink};
use crate::engine::Output;
use crate::error::{Error, Result};

/// The kernels and a model in this process's memory.
pub struct Linked {
    model: PackedModel,
    scratch: RefCell<Scratch>,
    /// The caches by their number; `None` where one was freed.
    caches: RefCell<Vec<Option<Cache>>>,
    /// The outputs of the pass that `begin` ran. There is no page that must stay responsive, so it runs as a whole.
    outputs: RefCell<Option<Vec<Output>>>,
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
        let linked = Linked { model, scratch, caches: RefCell::default(), outputs: RefCell::default() };
        Ok((Self::new(config, Rc::new(linked)), warnings))
    }
}

impl Linked {
    /// Bytes of all caches; what several share counts once.
    pub fn all_bytes(&self) -> usize {
        Cache::n_bytes_of(self.caches.borrow().iter().flatten())
    }

    fn keep(&self, cache: Cache) -> usize {
        let mut caches = self.caches.borrow_mut();
        let free = caches.iter().position(Option::is_none).unwrap_or(caches.len());
        match caches.get_mut(free) {
            Some(place) => *place = Some(cache),
            None => caches.push(Some(cache)),
        }
        free
    }

    fn take(&self, cache: usize) -> Result<Cache> {
        let taken = self.caches.borrow_mut().get_mut(cache).and_then(Option::take);
        taken.ok_or_else(|| Error::InvalidState(format!("cache {cache} is freed, or twice in one pass")))
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

    fn cache_bytes(&self, cache: usize) -> usize {
        self.with(cache, |c| c.n_bytes()).unwrap_or(0)
    }

    fn begin(&self, texts: &[Text], with_attentions: bool) -> Result<()> {
        let taken = texts.iter().map(|text| self.take(text.cache)).collect::<Result<Vec<_>>>();
        let mut taken = taken?;
        let shares = texts.iter().map(|text| (text.ids.to_vec(), text.rows));
        let mut forward = Forward::batch(shares).with_attentions(with_attentions);
        self.model.run_alone(&mut forward, &mut self.scratch.borrow_mut(), &mut taken);
        for (text, cache) in texts.iter().zip(taken) {
            self.caches.borrow_mut()[text.cache] = Some(cache);
        }
        let output =
            |o: gpt2_kernels::Output| Output { logits: o.logits, attentions: with_attentions.then_some(o.attentions) };
        *self.outputs.borrow_mut() = Some(forward.outputs.into_iter().map(output).collect());
        Ok(())
    }

    fn advance(&self) -> Result<Option<Vec<Output>>> {
        Ok(self.outputs.take())
    }

    async fn pause(&self) -> Result<()> {
        Ok(())
    }
}
