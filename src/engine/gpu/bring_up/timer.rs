//! How long passes take on the device, by its own clock.

use std::rc::Rc;

use wgpu::{Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, Features, QuerySet};

use crate::engine::gpu::context::Context;
use crate::error::Result;

/// Timestamps at the beginning and the end of compute passes.
pub(crate) struct Timer {
    context: Rc<Context>,
    set: QuerySet,
    resolved: Buffer,
    n_spans: u32,
}

impl Timer {
    /// Most spans of one timer.
    pub const MAX_SPANS: u32 = wgpu::QUERY_SET_MAX_QUERIES / 2;

    /// For so many passes; `None` where the device has no timestamps.
    pub fn new(context: &Rc<Context>, n_spans: u32) -> Option<Self> {
        if !context.device.features().contains(Features::TIMESTAMP_QUERY) || n_spans > Self::MAX_SPANS {
            return None;
        }
        let count = 2 * n_spans;
        let ty = wgpu::QueryType::Timestamp;
        let set = context.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("timer"), ty, count });
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = context.buffer("timer", 8 * u64::from(count), usage);
        Some(Self { context: context.clone(), set, resolved, n_spans })
    }

    /// The queries that time pass `i`.
    pub fn span(&self, i: u32) -> ComputePassTimestampWrites<'_> {
        ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(2 * i),
            end_of_pass_write_index: Some(2 * i + 1),
        }
    }

    /// Submits what was recorded and waits for it. → milliseconds of each pass
    pub async fn submit(&self, mut encoder: CommandEncoder) -> Result<Vec<f64>> {
        let n_bytes = 16 * u64::from(self.n_spans);
        encoder.resolve_query_set(&self.set, 0..2 * self.n_spans, &self.resolved, 0);
        let staging = self.context.staging(n_bytes);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &staging.buffer, 0, n_bytes);
        let submitted = self.context.submit(encoder.finish());
        let bytes = staging.read(n_bytes, submitted).await?;
        let ms_per_tick = f64::from(self.context.queue.get_timestamp_period()) / 1e6;
        let ticks: Vec<u64> = bytes.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect();
        // a rounded clock may show no difference, and a clock that was reset may run backwards
        let ms = |[begin, end]: &[u64; 2]| end.saturating_sub(*begin) as f64 * ms_per_tick;
        Ok(ticks.as_chunks().0.iter().map(ms).collect())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.resolved.destroy();
        self.set.destroy();
    }
}
