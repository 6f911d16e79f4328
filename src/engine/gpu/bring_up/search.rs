//! Measures which [`Tuning`] is fastest: varies one size at a time, on the model's own matrices, for a fraction of a
//! second in all.

use std::rc::Rc;

use super::timer::Timer;
use crate::engine::Choose;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::kernels::{
    Dispatch, DispatchMaker, MATVEC_THREADS, Params, PassSize, THREAD_CHUNKS, TILES, Tuning,
};
use crate::error::{Error, Result};

/// Device time that all measurements together may take, milliseconds. Sizes not measured by then keep their defaults.
const MAX_MS: f64 = 300.0;
/// The shortest measurement, milliseconds. Browsers round timestamps to 0.1 ms, so a shorter one would say little.
const SPAN_MS: f64 = 3.0;
/// A candidate must be faster by at least this share; smaller differences are noise.
const GAIN: f64 = 0.05;
/// The matrices of this many layers are read in turn. A single matrix would stay in the device's cache, which does not
/// happen in a real pass.
const MAX_LAYERS: usize = 16;
/// Tokens of the prompt that is measured.
const N_TOKENS: usize = 128;

/// What is measured, and for how many new tokens.
type Candidate = (Vec<Dispatch>, usize);

/// Measures on the buffers of `maker`, whose contents do not matter.
pub(crate) struct Search<'a> {
    maker: DispatchMaker<'a>,
    context: Rc<Context>,
    timer: Option<Timer>,
    /// Milliseconds, for a device without timestamps.
    clock: fn() -> f64,
    spent_ms: f64,
}

impl<'a> Search<'a> {
    pub fn new(maker: DispatchMaker<'a>, context: &Rc<Context>, clock: fn() -> f64) -> Self {
        Self { timer: Timer::new(context, 1), maker, context: context.clone(), clock, spent_ms: 0.0 }
    }

    /// → the best of what was measured
    pub async fn run(&mut self) -> Result<Tuning> {
        let mut best = Tuning::default();
        let threads = THREAD_CHUNKS.iter().map(|&thread_chunks| Tuning { thread_chunks, ..best }).collect();
        best = self.best_of(threads, Self::matvec).await?;
        let threads = MATVEC_THREADS.iter().map(|&matvec_threads| Tuning { matvec_threads, ..best }).collect();
        best = self.best_of(threads, Self::matvec).await?;
        let tiles = TILES.iter().map(|&tile| Tuning { tile, ..best }).collect();
        best = self.best_of(tiles, Self::matmul).await?;
        let halves = Tuning { tile_f16: true, ..best };
        if halves.fits(self.maker.image.layout.dtype, self.context.has_f16) {
            best = match self.best_of(vec![best, halves], Self::matmul).await {
                Ok(found) => found,
                Err(lost @ Error::DeviceLost(_)) => return Err(lost),
                // some drivers offer shader-f16 and then fail to compile it; the other measurements are still valid
                Err(_) => {
                    self.maker.pipelines.forget();
                    best
                }
            };
        }
        Ok(best)
    }

    /// `mlp.c_fc` in decoding: a matrix-vector product.
    fn matvec(maker: &DispatchMaker) -> Result<Candidate> {
        Ok((maker.c_fc(MAX_LAYERS, 1)?, 1))
    }

    /// `mlp.c_fc` in prefill: a matrix product.
    fn matmul(maker: &DispatchMaker) -> Result<Candidate> {
        let n_new = N_TOKENS.min(maker.w.max_chunk);
        Ok((maker.c_fc(MAX_LAYERS, n_new)?, n_new))
    }

    async fn best_of(
        &mut self,
        candidates: Vec<Tuning>,
        make: fn(&DispatchMaker) -> Result<Candidate>,
    ) -> Result<Tuning> {
        let mut times = Vec::new();
        for tuning in candidates {
            if tuning.tile_f16 && self.is_over() {
                break; // every program that is made gets compiled at some point, and this one may fail to
            }
            self.maker.tuning = tuning;
            let (steps, n_new) = make(&self.maker)?;
            let params = Params::of_text(0, n_new, Choose::default());
            times.push((tuning, self.time(&steps, &params).await?));
        }
        Ok(fastest(&times))
    }

    fn is_over(&self) -> bool {
        self.spent_ms > MAX_MS
    }

    /// → milliseconds of a round of these steps; `None` if the time for measuring is used up, or cannot be told
    async fn time(&mut self, steps: &[Dispatch], params: &Params) -> Result<Option<f64>> {
        if self.is_over() {
            return Ok(None);
        }
        self.maker.pipelines.compile().await?;
        self.context.queue.write_buffer(&self.maker.s.params, 0, &params.to_bytes());
        self.round(steps, params, 1).await?; // not counted: many drivers are slow at a pipeline's first use
        let mut n_rounds = 1;
        loop {
            let ms = self.round(steps, params, n_rounds).await?;
            self.spent_ms += ms;
            if ms == 0.0 && n_rounds >= 64 {
                return Ok(None); // the clock does not advance, or is too coarse
            }
            if ms >= SPAN_MS || n_rounds >= 4096 {
                let again = self.round(steps, params, n_rounds).await?;
                self.spent_ms += again;
                return Ok(Some(ms.min(again) / f64::from(n_rounds)));
            }
            n_rounds *= (1.5 * SPAN_MS / ms.max(1e-3)).clamp(2.0, 16.0) as u32;
        }
    }

    /// → milliseconds of so many rounds
    async fn round(&self, steps: &[Dispatch], params: &Params, n_rounds: u32) -> Result<f64> {
        let size = PassSize::of(params);
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let timestamp_writes = self.timer.as_ref().map(|timer| timer.span(0));
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        for _ in 0..n_rounds {
            steps.iter().for_each(|step| step.record(&mut pass, None, size));
        }
        drop(pass);
        if let Some(timer) = &self.timer {
            return Ok(timer.submit(encoder).await?.first().copied().unwrap_or_default());
        }
        let staging = self.context.staging(16);
        encoder.copy_buffer_to_buffer(&self.maker.s.x, 0, &staging.buffer, 0, 16);
        let begin = (self.clock)();
        let submitted = self.context.submit(encoder.finish());
        staging.read(16, submitted).await?;
        Ok((self.clock)() - begin)
    }
}

/// The first candidate, unless another is faster by more than [`GAIN`].
fn fastest(times: &[(Tuning, Option<f64>)]) -> Tuning {
    let mut best = times[0];
    for &(tuning, ms) in &times[1..] {
        if let (Some(ms), Some(best_ms)) = (ms, best.1)
            && ms < best_ms * (1.0 - GAIN)
        {
            best = (tuning, Some(ms));
        }
    }
    best.0
}
