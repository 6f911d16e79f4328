//! The kernels: how WGSL becomes a dispatch, which dispatches a pass has, and how each is spread over threads.

mod kernel;
mod model;
mod params;
mod pipelines;
mod tuning;

pub(crate) use kernel::{Dispatch, PassSize, cache_layout};
pub(crate) use model::{DispatchMaker, GpuModel};
pub(crate) use params::Params;
pub(crate) use pipelines::Pipelines;
pub use tuning::Tuning;
pub(crate) use tuning::{MATVEC_THREADS, SPLIT_KEYS, THREAD_CHUNKS, TILES, TUNING_VERSION};
