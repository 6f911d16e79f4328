//! Loads a model into a [`GpuEngine`]: allocates memory, takes the weights in pieces, and compiles the pipelines
//! meanwhile.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use gpt2_kernels::{Dtype, Layout};

use super::search::Search;
use crate::checkpoint::Config;
use crate::engine::gpu::context::{CompileAhead, Context};
use crate::engine::gpu::kernels::{DispatchMaker, GpuModel, Pipelines, TUNING_VERSION, Tuning};
use crate::engine::gpu::memory::{CacheShape, Image, Scratch, Widths, check_limits};
use crate::engine::gpu::run::GpuEngine;
use crate::error::{Error, Result};

/// The queue keeps a copy of what is written until it is flushed, so it is flushed after this many bytes.
const FLUSH_BYTES: usize = 16 << 20;

/// A model whose weights are still arriving: the image of [`gpt2_kernels::layout`], in pieces of any size and order.
pub struct GpuLoader {
    config: Config,
    context: Rc<Context>,
    image: Image,
    pipelines: Pipelines,
    /// Empty until [`GpuLoader::prepare`] has run.
    model: OnceCell<GpuModel>,
    /// Bytes written since the queue was last flushed.
    pending_bytes: Cell<usize>,
}

impl GpuLoader {
    /// Allocates the device's memory for the weights, as zeros. Takes over the device's error callbacks.
    ///
    /// # Errors
    /// [`Error::GpuOutOfMemory`]; [`Error::WebGpuNotAvailable`] for a model that this device cannot bind.
    pub async fn new(device: wgpu::Device, queue: wgpu::Queue, config: Config, dtype: Dtype) -> Result<Self> {
        Self::on(Context::new(device, queue), config, dtype).await
    }

    /// Another model on the same device. An error of the device fails both.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn beside(&self, config: Config, dtype: Dtype) -> Result<Self> {
        Self::on(self.context.clone(), config, dtype).await
    }

    async fn on(context: Rc<Context>, config: Config, dtype: Dtype) -> Result<Self> {
        // checked here so that a model that cannot run is refused before it is downloaded
        let (layout, plan) = check_limits(&config, dtype, &context.device.limits())?;
        let make = || Ok(Image::new(context.clone(), layout, plan));
        let image = context.checked("the packed weights", make).await?;
        let pipelines = Pipelines::new(context.clone());
        Ok(Self { config, context, image, pipelines, model: OnceCell::new(), pending_bytes: Cell::new(0) })
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.image.layout
    }

    /// Sets how pipelines are compiled in the background, for this model and those [`beside`](Self::beside) it.
    pub fn set_compile_ahead(&self, compile_ahead: CompileAhead) {
        self.context.compile_ahead.set(Some(compile_ahead));
    }

    /// As [`GpuEngine::act_full`], for this model and those [`beside`](Self::beside) it.
    #[doc(hidden)]
    pub fn act_full(&self, acts_full: bool) {
        self.context.acts_full.set(acts_full);
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

    /// The part of the key under which a tuning is stored that depends on the model; the adapter is the other part.
    pub fn tuning_key(&self) -> String {
        let Config { n_embd, n_inner, n_head, n_layer, .. } = self.config;
        let dtype = self.image.layout.dtype.name();
        format!("v{} {dtype} C{n_embd} inner{n_inner} H{n_head} L{n_layer}", TUNING_VERSION)
    }

    /// Reads a stored tuning. `None` if this device cannot run this model with it: other code can write to the same
    /// storage, and a browser may offer fewer features of an adapter than before.
    pub fn remembered(&self, json: &str) -> Option<Tuning> {
        Tuning::from_json(json).filter(|tuning| self.can_use(tuning))
    }

    fn can_use(&self, tuning: &Tuning) -> bool {
        tuning.fits(self.image.layout.dtype, self.context.has_f16)
    }

    /// Measures how work is best spread on this device. Takes a fraction of a second, and the time to compile a dozen
    /// pipelines. `clock`: milliseconds from any origin, for a device without timestamps. Weights that have been
    /// written stay as they are.
    ///
    /// # Errors
    /// As [`Self::compile_next`].
    pub async fn search(&self, clock: fn() -> f64) -> Result<Tuning> {
        let Self { config, context, image, pipelines, .. } = self;
        let w = Widths::new(config, &context.device.limits())?;
        let make = || Ok(Scratch::new(context, &w));
        let scratch = context.checked("the tuning's buffers", make).await?;
        let maker = DispatchMaker { config, image, w, s: &scratch, pipelines, tuning: Tuning::default() };
        let tuning = Search::new(maker, context, clock).run().await?;
        context.check()?;
        Ok(tuning)
    }

    /// Makes everything except the compiled pipelines. Has no effect the second time.
    ///
    /// # Errors
    /// [`Error::GpuOutOfMemory`]; [`Error::WebGpuNotAvailable`] with what the device has to say;
    /// [`Error::InvalidState`] for sizes that nobody has tested, or halves where there are none.
    pub async fn prepare(&self, tuning: Tuning) -> Result<()> {
        if self.model.get().is_some() {
            return Ok(());
        }
        if !self.can_use(&tuning) {
            return Err(Error::InvalidState(format!("a tuning that does not exist here: {tuning:?}")));
        }
        let Self { config, context, image, pipelines, .. } = self;
        let make = || GpuModel::new(config, image, context, pipelines, tuning);
        let model = context.checked("the GPU engine", make).await?;
        self.model.get_or_init(|| model);
        Ok(())
    }

    /// How many pipelines are still to be compiled.
    pub fn n_pipelines_left(&self) -> usize {
        self.pipelines.n_left()
    }

    /// Starts compiling, without waiting.
    pub fn start_compiling(&self) {
        self.pipelines.start();
    }

    /// Waits for the next pipeline. To be called while the weights are fetched. → `false` if none was left
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] with what the device has to say of a shader, and which; [`Error::DeviceLost`].
    pub async fn compile_next(&self) -> Result<bool> {
        self.pipelines.next().await
    }

    fn cache_shape(&self, w: &Widths) -> CacheShape {
        CacheShape {
            context: self.context.clone(),
            layout: self.pipelines.cache_layout.clone(),
            n_layer: self.config.n_layer,
            n_positions: self.config.n_positions,
            n_made: Cell::new(0),
            token_bytes: 8 * w.n_head * w.head_padded,
        }
    }

    /// The engine, once all weights have been written.
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::compile_next`], which it runs if the caller has not.
    pub async fn finish(self) -> Result<GpuEngine> {
        self.prepare(Tuning::default()).await?;
        self.pipelines.compile().await?;
        let missing = || Error::InvalidState("the kernels were not made".into());
        let cache_shape = self.model.get().map(|model| Rc::new(self.cache_shape(&model.widths))).ok_or_else(missing)?;
        let Self { config, context, image, model, pipelines, .. } = self;
        Ok(GpuEngine {
            config,
            context,
            image,
            model: model.into_inner().ok_or_else(missing)?,
            pipelines,
            cache_shape,
            attentions: RefCell::default(),
            batch: RefCell::default(),
            adapters: RefCell::default(),
            piece: RefCell::default(),
            n_ids_written: Cell::new(0),
        })
    }
}
