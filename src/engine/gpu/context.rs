//! The device, the errors that it has reported outside any call, and counters of what was asked of it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use wgpu::{Buffer, BufferUsages, CommandBuffer, ComputePipeline, Device, ErrorFilter, Queue, SubmissionIndex};

use super::answer::{Answer, lock};
use crate::error::{Error, Result};

/// What an engine has asked of its device since it was made.
///
/// The command encoder, pass and command buffer that every submit needs are not counted as objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Counters {
    /// Compute dispatches.
    pub n_dispatches: u64,
    /// Calls of `queue.submit`.
    pub n_submits: u64,
    /// Buffers, bind groups, pipelines and shader modules created.
    pub n_objects: u64,
    /// Bytes copied back to the host.
    pub read_bytes: u64,
    /// Time spent recording passes up to their submit, milliseconds; 0 without a clock.
    pub encode_ms: f64,
}

impl Counters {
    /// What was added after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            n_dispatches: self.n_dispatches - earlier.n_dispatches,
            n_submits: self.n_submits - earlier.n_submits,
            n_objects: self.n_objects - earlier.n_objects,
            read_bytes: self.read_bytes - earlier.read_bytes,
            encode_ms: self.encode_ms - earlier.encode_ms,
        }
    }
}

/// Compiles a pipeline in the background. It is given the function that creates the pipeline, and may call that
/// function more than once. → the pipeline, or what is wrong with it
pub type CompileAhead = fn(&Device, Box<dyn Fn() -> ComputePipeline>) -> CompilingPipeline;

/// A pipeline that is being compiled.
pub type CompilingPipeline = Pin<Box<dyn Future<Output = std::result::Result<ComputePipeline, String>>>>;

/// A device, its queue, and what this engine knows of both.
pub(crate) struct Context {
    pub device: Device,
    pub queue: Queue,
    /// Whether shaders may use subgroups.
    pub has_subgroups: bool,
    /// Whether shaders may use halves.
    pub has_f16: bool,
    /// The first thing that went wrong; nothing computed after it can be trusted.
    failure: Arc<Mutex<Option<Error>>>,
    counters: Cell<Counters>,
    /// Bytes of all buffers that were asked for so far.
    asked_bytes: Cell<u64>,
    /// Whether one of them was larger than the device makes any.
    is_too_large: Cell<bool>,
    /// Whether to act as a device that is full: tests want to see one.
    pub acts_full: Cell<bool>,
    /// Unused buffers for reading back, the most recently used one at the end.
    staging: RefCell<Vec<Buffer>>,
    /// A clock in milliseconds, from any origin.
    pub clock: Cell<Option<fn() -> f64>>,
    /// How the host compiles in the background, if it can.
    pub compile_ahead: Cell<Option<CompileAhead>>,
}

impl Context {
    /// Takes over the device's error callbacks.
    pub fn new(device: Device, queue: Queue) -> Rc<Self> {
        let failure = Arc::new(Mutex::new(None));
        let told = failure.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            lock(&told).get_or_insert(runtime_error(&e));
        }));
        let told = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            // a lost device explains every error before it, so it replaces them
            *lock(&told) = Some(Error::DeviceLost(format!("{reason:?}: {message}")));
        });
        Rc::new(Self {
            has_subgroups: has_subgroups(&device),
            has_f16: device.features().contains(wgpu::Features::SHADER_F16),
            device,
            queue,
            failure,
            counters: Cell::default(),
            asked_bytes: Cell::default(),
            is_too_large: Cell::default(),
            acts_full: Cell::default(),
            staging: RefCell::default(),
            clock: Cell::default(),
            compile_ahead: Cell::default(),
        })
    }

    /// # Errors
    /// The first error that the device has reported outside any call.
    pub fn check(&self) -> Result<()> {
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }

    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    pub fn count(&self, add: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }

    pub fn now_ms(&self) -> f64 {
        self.clock.get().map_or(0.0, |clock| clock())
    }

    /// A buffer of zeros.
    pub fn buffer(&self, label: &str, n_bytes: u64, usage: BufferUsages) -> Buffer {
        /// More than any device has.
        const TOO_LARGE: u64 = 1 << 50;
        self.count(|c| c.n_objects += 1);
        self.asked_bytes.update(|asked| asked.saturating_add(n_bytes));
        let size = n_bytes.max(16).next_multiple_of(16); // shaders read vec4s, and no binding may be empty
        let size = if self.acts_full.get() { TOO_LARGE } else { size };
        if size > self.device.limits().max_buffer_size {
            self.is_too_large.set(true);
        }
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A buffer that shaders read and write.
    pub fn storage(&self, label: &str, n_bytes: u64) -> Buffer {
        self.buffer(label, n_bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST)
    }

    pub fn submit(&self, commands: CommandBuffer) -> SubmissionIndex {
        self.count(|c| c.n_submits += 1);
        self.queue.submit([commands])
    }

    /// Runs a function that creates objects, and waits until the device has reported errors in them, if there are any.
    /// `what`: what is created, for the error.
    ///
    /// # Errors
    /// [`Error::GpuOutOfMemory`], or [`Error::WebGpuNotAvailable`] with the device's message. What was created before
    /// is as good as it was.
    pub async fn checked<T>(&self, what: &str, create: impl FnOnce() -> Result<T>) -> Result<T> {
        self.is_too_large.set(false);
        let asked_before = self.asked_bytes.get();
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Internal, ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let created = create();
        let n_bytes = self.asked_bytes.get() - asked_before;
        let is_too_large = self.is_too_large.get();
        // scopes are a stack: the last one pushed is popped first, and all are popped before the first await
        let mut said = Vec::new();
        for scope in scopes.into_iter().rev() {
            said.push(scope.pop());
        }
        let mut errors = Vec::new();
        for answer in said {
            errors.extend(answer.await);
        }
        self.check()?;
        // a buffer that there was no room for is an invalid one, and whatever uses it is a further error
        let is_full = |e: &wgpu::Error| matches!(e, wgpu::Error::OutOfMemory { .. });
        match errors.first() {
            None => created,
            Some(_) if is_too_large || errors.iter().any(is_full) => {
                Err(Error::GpuOutOfMemory { what: what.into(), n_bytes })
            }
            Some(e) => Err(Error::WebGpuNotAvailable(format!("{what}: {e}"))),
        }
    }

    /// What tells that everything submitted up to `after` is done.
    pub fn work_done(&self, after: SubmissionIndex) -> WorkDone {
        let (answer, tell) = Answer::new();
        self.queue.on_submitted_work_done(move || tell(()));
        WorkDone { after, answer }
    }

    /// Waits for such work.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or whatever the device has reported by then.
    pub async fn wait_for(&self, WorkDone { after, answer }: WorkDone) -> Result<()> {
        self.check()?;
        wait_natively(self, after)?;
        answer.wait().await;
        self.check()
    }

    /// A buffer of at least `n_bytes` to read back through; one that was used before, if there is one.
    pub fn staging(self: &Rc<Self>, n_bytes: u64) -> Staging {
        let n_bytes = n_bytes.max(1024); // so that read-backs of choices with different `k` share buffers
        let mut free = self.staging.borrow_mut();
        let fits = |b: &Buffer| (n_bytes..=4 * n_bytes).contains(&b.size());
        let found = free.iter().position(fits).map(|i| free.remove(i));
        let buffer =
            found.unwrap_or_else(|| self.buffer("staging", n_bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST));
        Staging { context: self.clone(), buffer, is_mapped: false }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn has_subgroups(device: &Device) -> bool {
    device.features().contains(wgpu::Features::SUBGROUP)
}

/// wgpu does not report this feature for a page's device, so the device itself is asked.
#[cfg(target_arch = "wasm32")]
fn has_subgroups(device: &Device) -> bool {
    device.as_webgpu().is_some_and(|device| device.features().has("subgroups"))
}

/// An error outside of any check, be it the lack of memory: the device still exists, but its results cannot be trusted,
/// which means the same to the caller as if it were lost.
fn runtime_error(error: &wgpu::Error) -> Error {
    Error::DeviceLost(format!("WebGPU reported: {error}"))
}

/// Work of the queue that may not be done yet.
pub(crate) struct WorkDone {
    after: SubmissionIndex,
    answer: Answer<()>,
}

/// A buffer on loan for one read-back.
pub(crate) struct Staging {
    context: Rc<Context>,
    pub buffer: Buffer,
    is_mapped: bool,
}

impl Staging {
    /// Waits for the submit that filled the buffer. → its first `n_bytes`
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or whatever the device has reported by then.
    pub async fn read(mut self, n_bytes: u64, after: SubmissionIndex) -> Result<Vec<u8>> {
        let (context, buffer) = (self.context.clone(), self.buffer.clone());
        context.check()?;
        let (answer, tell) = Answer::new();
        self.is_mapped = true;
        buffer.slice(..n_bytes).map_async(wgpu::MapMode::Read, tell);
        wait_natively(&context, after)?;
        let mapped = answer.wait().await;
        context.check()?;
        let lost = |e: String| Error::DeviceLost(format!("reading back: {e}"));
        mapped.map_err(|e| lost(e.to_string()))?;
        context.count(|c| c.read_bytes += n_bytes);
        let view = buffer.slice(..n_bytes).get_mapped_range().map_err(|e| lost(e.to_string()))?;
        Ok(view.to_vec())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        /// Free buffers that are kept: enough for two texts decoded two tokens ahead.
        const MAX_FREE: usize = 6;
        if self.is_mapped {
            self.buffer.unmap(); // also cancels a read whose result is not wanted any more
        }
        let mut free = self.context.staging.borrow_mut();
        if free.len() == MAX_FREE {
            free.remove(0).destroy(); // the least recently used one
        }
        free.push(self.buffer.clone());
    }
}

/// Natively, callbacks run only while the device is polled. In a page the browser runs them.
#[cfg(not(target_arch = "wasm32"))]
fn wait_natively(context: &Context, after: SubmissionIndex) -> Result<()> {
    let wait = wgpu::PollType::Wait { submission_index: Some(after), timeout: None };
    match context.device.poll(wait) {
        Ok(_) => Ok(()),
        Err(e) => context.check().and(Err(Error::DeviceLost(e.to_string()))),
    }
}

#[cfg(target_arch = "wasm32")]
fn wait_natively(_: &Context, _: SubmissionIndex) -> Result<()> {
    Ok(())
}
