//! From nothing to a [`Gpu`]: memory first, then the weights in pieces, then the pipelines.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gpt2_kernels::{Dtype, Layout};

use super::Gpu;
use super::cache::CacheShape;
use super::context::Context;
use super::image::{Image, Plan};
use super::kernel::{Pipelines, cache_layout};
use super::model::Model;
use crate::error::{Error, Result};
use crate::gpt2::Config;

/// Bytes that are handed to the queue before it is asked to move them: what it holds until then is memory as well.
const FLUSH_BYTES: usize = 16 << 20;

/// A model whose weights are still arriving: the image of [`gpt2_kernels::layout`], in pieces of any size and order.
pub struct Loader {
    config: Config,
    context: Rc<Context>,
    image: Image,
    kernels: Option<(Model, Pipelines)>,
    /// Written since the queue was last flushed.
    pending_bytes: Cell<usize>,
}

impl Loader {
    /// Allocates the device's memory for the weights, as zeros. Takes over the device's error callbacks.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::WebGpuNotAvailable`] for a model that this device cannot bind.
    pub async fn new(device: wgpu::Device, queue: wgpu::Queue, config: Config, dtype: Dtype) -> Result<Self> {
        let context = Context::new(device, queue);
        let uncountable = || Error::OutOfMemory { what: "the packed weights".into(), n_bytes: u64::MAX };
        let layout = Layout::new(&config.dims(), dtype).ok_or_else(uncountable)?;
        let plan = Plan::new(&layout, &context.device.limits())?;
        let n_bytes = layout.n_bytes as u64;
        let make = || Ok(Image::new(context.clone(), layout, plan));
        let image = context.checked("the packed weights", n_bytes, make).await?;
        Ok(Self { config, context, image, kernels: None, pending_bytes: Cell::new(0) })
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.image.layout
    }

    /// Writes a piece of the image; offset and length are multiples of 4 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for a piece beyond the image or not aligned, or what the device has reported.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.context.check()?;
        self.image.write(offset, bytes)?;
        let pending_bytes = self.pending_bytes.get() + bytes.len();
        let is_enough = pending_bytes >= FLUSH_BYTES;
        if is_enough {
            self.context.queue.submit([]);
        }
        self.pending_bytes.set(if is_enough { 0 } else { pending_bytes });
        Ok(())
    }

    /// Reads a piece of the image back, so that the converted weights can be stored.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn read(&self, offset: usize, n_bytes: usize) -> Result<Vec<u8>> {
        self.image.read(offset, n_bytes).await
    }

    /// Makes every pipeline and bind group; best called before the weights are fetched, since drivers go on compiling
    /// while they arrive.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::WebGpuNotAvailable`] with what the device has to say of a shader.
    pub async fn compile(&mut self) -> Result<()> {
        let Self { config, context, image, .. } = self;
        let make = || {
            let pipelines = Pipelines::new(context.clone(), cache_layout(context));
            Ok((Model::new(config, image, context, &pipelines)?, pipelines))
        };
        self.kernels = Some(context.checked("the GPU engine", 0, make).await?);
        Ok(())
    }

    /// The engine, after the last piece of the weights.
    ///
    /// # Errors
    /// As [`Self::compile`], which it does if nobody has yet.
    pub async fn finish(mut self) -> Result<Gpu> {
        if self.kernels.is_none() {
            self.compile().await?;
        }
        let Self { config, context, image, kernels, .. } = self;
        let Some((model, pipelines)) = kernels else {
            return Err(Error::InvalidState("the kernels were not compiled".into()));
        };
        let cache_shape = Rc::new(CacheShape {
            context: context.clone(),
            layout: pipelines.cache_layout.clone(),
            n_layer: config.n_layer,
            n_positions: config.n_positions,
            token_bytes: 8 * model.widths.n_head * model.widths.head_padded,
        });
        Ok(Gpu {
            config,
            context,
            image,
            model,
            pipelines,
            cache_shape,
            attentions: RefCell::default(),
            n_ids_written: Cell::new(0),
        })
    }
}
