//! The GPU engine: few dispatches, nothing created per token, and the chosen token stays on the device.
//!
//! ```text
//! GpuLoader: image (packed weights) -> model (kernels with their buffers) -> GpuEngine
//! forward: params, ids -> one pass, one submit -> logits                          (the trait; reads V floats back)
//! submit:  params (, ids) -> the same pass, top_k, choose -> Pending -> chosen      (reads at most 1 KB back)
//! ```
//!
//! In reading order: `open` (asking for a device), `context` and `answer` (the device, and what it reports), `limits`, `memory`
//! (where weights, caches and intermediate results lie), `kernels` (from WGSL to the dispatches of a pass), `run`
//! (passes), `bring_up` (loading, tuning, self-test). A picture of a token's pass is in `docs/token-pass.md`.
//!
//! The engine takes any `wgpu` device; nothing here names a backend or blocks a page: natively a read-back polls the
//! device, in a page the browser does.

mod answer;
mod bring_up;
mod context;
mod kernels;
mod limits;
mod memory;
mod open;
mod run;

pub use bring_up::{BringUpStep, GpuLoader, Span, Trial, TuningSource};
pub use context::{CompileAhead, CompilingPipeline, Counters};
pub use kernels::Tuning;
pub use limits::MAX_K;
pub use memory::{GpuCache, Plan, check_limits};
pub use open::{OpenGpu, destroy, open};
pub use run::{GpuEngine, Input, Pending};
