//! From nothing to a [`Gpu`]: memory and bind groups first, then the weights in pieces, and beside them the pipelines.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gpt2_kernels::{Dtype, Layout};

use super::Gpu;
use super::cache::CacheShape;
use super::context::Context;
use super::image::{Image, Plan};
use super::kernel::cache_layout;
use super::model::Model;
use super::pipelines::{CompileAhead, Pipelines};
use crate::error::{Error, Result};
use crate::gpt2::Config;

/// Bytes that are handed to the queue before it is asked to move them: what it holds until then is memory as well.
const FLUSH_BYTES: usize = 16 << 20;

/// A model whose weights are still arriving: the image of [`gpt2_kernels::layout`], in pieces of any size and order.
pub struct Loader {
    config: Config,
    context: Rc<Context>,
    image: Image,
    model: Model,
    pipelines: Pipelines,
    /// Written since the queue was last flushed.
    pending_bytes: Cell<usize>,
}

impl Loader {
    /// Allocates the device's memory for the weights, as zeros, and for the passes. Takes over the device's error
    /// callbacks. Compiles nothing yet.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::WebGpuNotAvailable`] for a model that this device cannot bind.
    pub async fn new(device: wgpu::Device, queue: wgpu::Queue, config: Config, dtype: Dtype) -> Result<Self> {
        Self::on(Context::new(device, queue), config, dtype).await
    }

    /// Another model on the same device; what goes wrong there fails both.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn beside(&self, config: Config, dtype: Dtype) -> Result<Self> {
        Self::on(self.context.clone(), config, dtype).await
    }

    async fn on(context: Rc<Context>, config: Config, dtype: Dtype) -> Result<Self> {
        let uncountable = || Error::OutOfMemory { what: "the packed weights".into(), n_bytes: u64::MAX };
        let layout = Layout::new(&config.dims(), dtype).ok_or_else(uncountable)?;
        let plan = Plan::new(&layout, &context.device.limits())?;
        let n_bytes = layout.n_bytes as u64;
        let make = || Ok(Image::new(context.clone(), layout, plan));
        let image = context.checked("the packed weights", n_bytes, make).await?;
        let make = || {
            let pipelines = Pipelines::new(context.clone(), cache_layout(&context));
            Ok((Model::new(&config, &image, &context, &pipelines)?, pipelines))
        };
        let (model, pipelines) = context.checked("the GPU engine", 0, make).await?;
        Ok(Self { config, context, image, model, pipelines, pending_bytes: Cell::new(0) })
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.image.layout
    }

    /// How pipelines are compiled without blocking the device, also for models [`beside`](Self::beside) this one.
    pub fn set_compile_ahead(&self, compile_ahead: CompileAhead) {
        self.context.compile_ahead.set(Some(compile_ahead));
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

    /// How many pipelines the model has.
    pub fn n_pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// Begins to compile, and waits for nothing.
    pub fn start_compiling(&self) {
        self.pipelines.start();
    }

    /// Waits for the next pipeline; best called while the weights are fetched. → `false` if there is none left
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] with what the device has to say of a shader, and which; [`Error::DeviceLost`].
    pub async fn compile_next(&self) -> Result<bool> {
        self.pipelines.next().await
    }

    /// The engine, after the last piece of the weights.
    ///
    /// # Errors
    /// As [`Self::compile_next`], for it compiles what nobody has yet.
    pub async fn finish(self) -> Result<Gpu> {
        self.pipelines.compile().await?;
        let Self { config, context, image, model, pipelines, .. } = self;
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
