//! Profiling: times each dispatch of a pass by itself. For benches.

use super::timer::Timer;
use crate::engine::gpu::kernels::{Params, PassSize};
use crate::engine::gpu::memory::GpuCache;
use crate::engine::gpu::run::{End, GpuEngine};
use crate::engine::{Cache, Choose, check_bounds};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// All dispatches of a pass that run the same kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The kernel's name.
    pub label: String,
    /// How many such dispatches the pass has.
    pub n_dispatches: usize,
    /// Their time on the device in all, milliseconds.
    pub ms: f64,
}

impl GpuEngine {
    /// Runs `ids` after what `cache` holds, up to the choice of the next token, in one pass that is cut at every
    /// dispatch to be timed, so the whole takes longer than it does in use. → in the order of their first dispatch
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] for a device without timestamps, [`Error::InvalidOption`] for more ids than one
    /// pass takes; and as [`Engine::forward`](crate::engine::Engine::forward).
    pub async fn profile(&self, cache: &mut GpuCache, ids: &[TokenId]) -> Result<Vec<Span>> {
        check_bounds(&self.config, cache.n_tokens(), ids)?;
        self.check(cache)?;
        let max_chunk = self.model.widths.max_chunk;
        if ids.len() > max_chunk {
            return Err(Error::invalid_option("ids", format!("at most {max_chunk}"), ids.len().to_string()));
        }
        let end = End::Choose(Choose::default());
        let mut n_steps = 0;
        let adapter = cache.adapter().cloned();
        let adapter = adapter.as_deref();
        self.for_each_step(ids.len(), end, adapter, None, |_, _| n_steps += 1);
        let timer = Timer::new(&self.context, n_steps)
            .ok_or_else(|| Error::WebGpuNotAvailable("this GPU has no timestamps".into()))?;

        cache.make_room(ids.len()).await?;
        let params = Params::of_text(cache.n_tokens(), ids.len(), Choose::default());
        self.write_inputs(&params, Some(ids));
        let size = PassSize::of(&params);
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let mut labels = Vec::new();
        self.for_each_step(ids.len(), end, adapter, None, |step, layer| {
            let timestamp_writes = Some(timer.span(labels.len() as u32));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            step.record(&mut pass, layer.and_then(|i| cache.bind_group(i)), size);
            labels.push(step.label());
        });
        cache.advance(ids.len());
        let mut spans: Vec<Span> = Vec::new();
        for (label, ms) in labels.into_iter().zip(timer.submit(encoder).await?) {
            match spans.iter_mut().find(|span| span.label == label) {
                Some(span) => {
                    span.n_dispatches += 1;
                    span.ms += ms;
                }
                None => spans.push(Span { label: label.to_string(), n_dispatches: 1, ms }),
            }
        }
        Ok(spans)
    }
}
