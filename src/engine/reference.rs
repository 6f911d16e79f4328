//! The reference engine: the model of [`crate::gpt2`] on whichever Burn device it is given.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor};

use super::{Cache, Engine, Output, Rows, check_bounds};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpt2::{Gpt2, KvCache, Tensors};
use crate::tokenizer::TokenId;

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

    /// The model itself, for inspection.
    pub fn model(&self) -> &Gpt2 {
        &self.model
    }
}

impl Cache for KvCache {
    fn n_tokens(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, n_tokens: usize) {
        KvCache::truncate(self, n_tokens);
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
