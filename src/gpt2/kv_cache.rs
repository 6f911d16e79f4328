//! Keys and values of the tokens so far. A cache belongs to a session, never to the model.

use burn::tensor::Tensor;

/// The cache of one block: keys and values, each [N, H, S, D], or nothing yet.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    keys_values: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Appends T keys and values [N, H, T, D]. → all S of them, [N, H, S, D] each
    pub fn append(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (k, v) = match self.keys_values.take() {
            None => (k, v),
            Some((old_k, old_v)) => (Tensor::cat(vec![old_k, k], 2), Tensor::cat(vec![old_v, v], 2)),
        };
        self.keys_values = Some((k.clone(), v.clone()));
        (k, v)
    }

    fn len(&self) -> usize {
        self.keys_values.as_ref().map_or(0, |(k, _)| k.dims()[2])
    }

    fn truncate(&mut self, n_tokens: usize) {
        if n_tokens < self.len() {
            self.keys_values = self
                .keys_values
                .take()
                .filter(|_| n_tokens > 0)
                .map(|(k, v)| (k.narrow(2, 0, n_tokens), v.narrow(2, 0, n_tokens)));
        }
    }
}

/// The cache of every block. A clone shares the memory until one of the two grows.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache for a model of `n_layer` blocks.
    pub fn new(n_layer: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layer] }
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its keys and values, which are f32.
    pub fn n_bytes(&self) -> usize {
        let keys_values = self.layers.iter().filter_map(|layer| layer.keys_values.as_ref());
        keys_values.map(|(k, v)| 4 * (k.shape().num_elements() + v.shape().num_elements())).sum()
    }

    /// Forgets all but the first `n_tokens`.
    pub fn truncate(&mut self, n_tokens: usize) {
        for layer in &mut self.layers {
            layer.truncate(n_tokens);
        }
    }

    pub(super) fn layers_mut(&mut self) -> &mut [LayerCache] {
        &mut self.layers
    }
}
