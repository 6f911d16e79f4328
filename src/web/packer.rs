//! Packing a checkpoint into a file, for a program that converts models and runs none.

use gpt2_kernels::LAYOUT_VERSION;
use wasm_bindgen::prelude::*;

use super::device;
use super::js::JsResult;
use crate::checkpoint::{CheckpointReader, Config, PackingSink, TensorSink, packing};
use crate::error::{Error, Result};

#[wasm_bindgen]
extern "C" {
    /// www/src/cli/packed-file.ts: `PackedFile`
    pub type PackedFile;

    /// Writes bytes at a place in the file.
    #[wasm_bindgen(method)]
    fn write(this: &PackedFile, offset: f64, bytes: &[u8]);
}

/// The version of the packed weights' layout that this build reads and writes.
#[wasm_bindgen(js_name = layoutVersion)]
pub fn layout_version() -> u32 {
    LAYOUT_VERSION
}

/// Packs a checkpoint into a file of packed weights, from its first byte on.
#[wasm_bindgen]
pub struct Packer {
    reader: CheckpointReader<Box<dyn TensorSink>>,
    n_bytes: usize,
}

#[wasm_bindgen]
impl Packer {
    /// Begins a file for a model of this configuration, in one of the formats; `is_untied` as for `packedName`. The file
    /// begins as [`n_bytes`](Self::n_bytes) zeros, and not all of them are written.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str, dtype: &str, is_untied: bool, file: PackedFile) -> JsResult<Packer> {
        let config = Config::from_json(config_json)?;
        let config = if is_untied { config.untied() } else { config };
        let expected = "\"fp32\", \"fp16\", \"q8\" or \"q4\"";
        let dtype = device::dtype_from_name(dtype)?.ok_or_else(|| Error::invalid_option("dtype", expected, dtype))?;
        let layout = packing::layout(&config, dtype)?;
        let n_bytes = layout.n_bytes;
        let write = move |offset: usize, bytes: &[u8]| -> Result<()> {
            file.write(offset as f64, bytes);
            Ok(())
        };
        let sink: Box<dyn TensorSink> = Box::new(PackingSink::new(layout, write));
        Ok(Packer { reader: CheckpointReader::new(config, sink), n_bytes })
    }

    /// Bytes of the whole file.
    #[wasm_bindgen(getter, js_name = nBytes)]
    pub fn n_bytes(&self) -> f64 {
        self.n_bytes as f64
    }

    /// Begins one file of the checkpoint's weights, of `n_bytes` where that is known.
    #[wasm_bindgen(js_name = beginFile)]
    pub fn begin_file(&mut self, name: &str, n_bytes: Option<f64>) -> JsResult<()> {
        Ok(self.reader.begin_file(name, n_bytes.map(|n| n as u64))?)
    }

    /// Takes the next bytes of that file.
    pub fn write(&mut self, bytes: &[u8]) -> JsResult<()> {
        Ok(self.reader.write(bytes)?)
    }

    /// Ends the checkpoint. → what of it was left out or replaced, one sentence each
    pub fn finish(self) -> JsResult<Vec<String>> {
        Ok(self.reader.finish()?.1)
    }
}
