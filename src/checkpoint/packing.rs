//! A checkpoint's tensors into packed weights: `gpt2_kernels::pack`, with errors.

use gpt2_kernels::pack::Packer;
use gpt2_kernels::{Dtype, LAYOUT_VERSION, Layout};

use super::config::Config;
use super::names;
use super::sink::TensorSink;
use crate::error::{Error, Result};

/// The layout of a model's packed weights.
///
/// # Errors
/// [`Error::OutOfMemory`] if they are beyond what an address can reach.
pub fn layout(config: &Config, dtype: Dtype) -> Result<Layout> {
    Layout::new(&config.dims(), dtype).ok_or_else(|| out_of_memory(config, dtype))
}

/// Under which name packed weights of a format are kept. Another layout has another name, and so has a model whose head
/// is not its embedding although `config.json` says so.
pub fn packed_name(dtype: &str, is_untied: bool) -> String {
    let head = if is_untied { ".untied" } else { "" };
    format!("model.{dtype}{head}.v{LAYOUT_VERSION}.packed")
}

/// Weights that there is no room for.
pub fn out_of_memory(config: &Config, dtype: Dtype) -> Error {
    Error::OutOfMemory { what: format!("the model in {}", dtype.name()), n_bytes: n_bytes(config, dtype) }
}

/// Bytes of a model's packed weights. Where they are beyond what an address can reach, of the quants alone.
pub fn n_bytes(config: &Config, dtype: Dtype) -> u64 {
    match Layout::new(&config.dims(), dtype) {
        Some(layout) => layout.n_bytes as u64,
        None => names::n_params(config).saturating_mul(16) / dtype.chunk_values() as u64,
    }
}

/// Packs tensors as they arrive and hands the bytes to `write`, with their offset in the image.
pub struct PackingSink<W> {
    packer: Packer,
    write: W,
}

impl<W: FnMut(usize, &[u8]) -> Result<()>> PackingSink<W> {
    /// Nothing written yet; the image begins as zeros.
    pub fn new(layout: Layout, write: W) -> Self {
        Self { packer: Packer::new(layout), write }
    }
}

impl<W: FnMut(usize, &[u8]) -> Result<()>> TensorSink for PackingSink<W> {
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        match self.packer.begin(name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::InvalidState(format!("the packed layout has no tensor `{name}`"))),
            Err(_) => {
                let n_bytes = 4 * shape.iter().map(|&n| n as u64).product::<u64>();
                Err(Error::OutOfMemory { what: format!("tensor `{name}`, which is packed whole"), n_bytes })
            }
        }
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        // a scale cannot be had of them, and what came out would be silently wrong
        if self.packer.layout().dtype != Dtype::Fp32
            && let Some(x) = values.iter().find(|x| !x.is_finite())
        {
            return Err(Error::file("checkpoint", "finite numbers", x.to_string()));
        }
        let mut outcome = Ok(());
        self.packer.values(values, &mut first_error(&mut self.write, &mut outcome));
        outcome
    }

    fn end(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        self.packer.end(&mut first_error(&mut self.write, &mut outcome));
        outcome
    }
}

/// Writes until it fails.
fn first_error(
    mut write: impl FnMut(usize, &[u8]) -> Result<()>,
    outcome: &mut Result<()>,
) -> impl FnMut(usize, &[u8]) {
    move |offset, bytes| {
        if outcome.is_ok() {
            *outcome = write(offset, bytes);
        }
    }
}
