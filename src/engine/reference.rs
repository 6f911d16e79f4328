//! The reference engine: the model of [`crate::gpt2`] on whichever Burn device it is given.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};

use super::interface::{Cache, Engine, Output, Rows, check_bounds};
use crate::checkpoint::{Config, TensorSink};
use crate::error::{Error, Result};
use crate::gpt2::{Gpt2, KvCache, Tensors};
use crate::token::TokenId;

/// Burn's own operations, one after the other, in f32.
#[derive(Clone, Debug)]
pub struct Reference {
    config: Config,
    model: Gpt2,
    device: Device,
}

impl Reference {
    /// Takes the model's tensors, on the device that they are on.
    ///
    /// # Errors
    /// As [`Gpt2::load`].
    pub fn new(config: Config, mut tensors: Tensors) -> Result<Self> {
        let device = tensors.device().clone();
        let model = Gpt2::load(&mut tensors, &config)?;
        Ok(Self { config, model, device })
    }
}

/// Puts the tensors of a checkpoint on a device, one at a time, as they arrive.
#[derive(Debug)]
pub struct ReferenceSink {
    tensors: Tensors,
    /// Name, shape and values so far of the tensor that is arriving.
    arriving: (String, Vec<usize>, Vec<f32>),
}

impl ReferenceSink {
    /// Nothing has arrived yet.
    pub fn new(device: Device) -> Self {
        Self { tensors: Tensors::new(device), arriving: Default::default() }
    }

    /// The tensors that have arrived.
    pub fn into_tensors(self) -> Tensors {
        self.tensors
    }
}

impl TensorSink for ReferenceSink {
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let n_bytes = shape.iter().fold(4, |n: u64, &d| n.saturating_mul(d as u64));
        let mut values = Vec::new();
        usize::try_from(n_bytes / 4)
            .ok()
            .and_then(|n| values.try_reserve_exact(n).ok())
            .ok_or_else(|| Error::OutOfMemory { what: format!("tensor `{name}`"), n_bytes })?;
        self.arriving = (name.to_string(), shape.to_vec(), values);
        Ok(())
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        self.arriving.2.extend_from_slice(values);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (name, shape, values) = std::mem::take(&mut self.arriving);
        self.tensors.insert(name, shape, values);
        Ok(())
    }
}

impl Cache for KvCache {
    fn n_tokens(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, n_tokens: usize) {
        KvCache::truncate(self, n_tokens);
    }

    fn n_bytes(&self) -> usize {
        KvCache::n_bytes(self)
    }
}

impl Engine for Reference {
    type Cache = KvCache;
    type Pending = Infallible;

    fn config(&self) -> &Config {
        &self.config
    }

    fn new_cache(&self) -> KvCache {
        KvCache::new(self.config.n_layer)
    }

    async fn forward(&self, cache: &mut KvCache, ids: &[TokenId], rows: Rows, with_attentions: bool) -> Result<Output> {
        check_bounds(&self.config, cache.len(), ids)?;
        let mut attentions = with_attentions.then(Vec::new);
        let x = self.model.hidden(ids, cache, attentions.as_mut(), &self.device); // [1, T, C]
        let logits = match rows {
            Rows::None => Vec::new(),
            Rows::Last => read(self.model.logits(x.narrow(1, ids.len() - 1, 1))).await?,
            Rows::All => read(self.model.logits(x)).await?,
        };
        let attentions = match attentions {
            None => None,
            Some(blocks) => {
                let mut kept = Vec::with_capacity(blocks.len());
                for weights in blocks {
                    kept.push(read(weights).await?);
                }
                Some(kept)
            }
        };
        Ok(Output { logits, attentions })
    }
}

/// Waits for a tensor's values; asynchronous because a page must not block on its GPU.
async fn read<const N: usize>(tensor: Tensor<N>) -> Result<Vec<f32>> {
    let data = tensor.into_data_async().await.map_err(|e| Error::DeviceLost(e.to_string()))?;
    data.try_into_vec_as::<f32>().map_err(|e| Error::DeviceLost(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{CheckpointReader, Config};

    #[test]
    fn a_tensor_beyond_memory_is_an_error() {
        let json =
            r#"{"model_type":"gpt2","vocab_size":1048576,"n_positions":1,"n_embd":1048576,"n_head":1,"n_layer":1}"#;
        let config = Config::from_json(json).unwrap();
        let n = 1u64 << 42;
        let header = format!(r#"{{"wte.weight":{{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,{n}]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
        let mut stream = CheckpointReader::new(config, ReferenceSink::new(Device::flex()));
        stream.begin_file("model.safetensors", None).unwrap();
        let found = stream.write(&bytes);
        // where the system promises memory that it does not have, the file ends before it is needed
        let error = found.and_then(|()| stream.finish().map(|_| ())).unwrap_err();
        assert!(error.to_string().contains("wte.weight"), "{error}");
    }
}
