//! The kernels as a WebAssembly module of their own. The class of www/src/engine/kernels.ts runs that module.

use std::cell::Cell;

use js_sys::{Float32Array, Uint8Array};
use wasm_bindgen::prelude::*;

use super::any_engine::AnyEngine;
use crate::engine::Output;
use crate::engine::cpu::{Kernels, Text};
use crate::error::{Error, Result};

#[wasm_bindgen]
extern "C" {
    /// www/src/engine/kernels.ts: `Kernels`
    pub type KernelModule;

    /// Makes room for a model. → bytes of its image; 0 if there is not so much memory
    #[wasm_bindgen(method)]
    pub fn create(this: &KernelModule, dims: &[f64], dtype: u32) -> f64;
    /// Writes to the image.
    #[wasm_bindgen(method)]
    pub fn write(this: &KernelModule, offset: usize, bytes: &[u8]);
    /// A copy of a part of the image.
    #[wasm_bindgen(method)]
    pub fn read(this: &KernelModule, offset: usize, n_bytes: usize) -> Uint8Array;
    #[wasm_bindgen(method, js_name = cacheNew)]
    fn cache_new(this: &KernelModule) -> usize;
    #[wasm_bindgen(method, js_name = cacheClone)]
    fn cache_clone(this: &KernelModule, cache: usize) -> isize;
    #[wasm_bindgen(method, js_name = cacheTruncate)]
    fn cache_truncate(this: &KernelModule, cache: usize, n_tokens: usize);
    #[wasm_bindgen(method, js_name = cacheFree)]
    fn cache_free(this: &KernelModule, cache: usize);
    #[wasm_bindgen(method, js_name = cacheBytes)]
    fn cache_bytes(this: &KernelModule, cache: usize) -> usize;
    /// Begins a pass of several texts: of each its cache, how many ids it has and its `rows`, then the ids of all.
    /// → whether there is enough memory
    #[wasm_bindgen(method, js_name = forwardBatch)]
    fn forward_batch(this: &KernelModule, plan: &[u32], n_texts: usize, with_attentions: bool) -> bool;
    /// Goes on with it for a while. → whether it is done
    #[wasm_bindgen(method)]
    fn advance(this: &KernelModule) -> bool;
    /// Lets the worker handle messages. → whether the pass is still wanted
    #[wasm_bindgen(method)]
    async fn pause(this: &KernelModule) -> JsValue;
    /// → logits of a text; a view that is valid until the next call
    #[wasm_bindgen(method)]
    fn logits(this: &KernelModule, text: usize) -> Float32Array;
    /// → attention weights of a block; a view that is valid until the next call
    #[wasm_bindgen(method)]
    fn attentions(this: &KernelModule, layer: usize) -> Float32Array;
    /// Whether it multiplies integer weights as bytes.
    #[wasm_bindgen(method, getter, js_name = byteProducts)]
    pub fn byte_products(this: &KernelModule) -> bool;
    /// How many threads run it.
    #[wasm_bindgen(method, getter)]
    pub fn threads(this: &KernelModule) -> u32;
}

/// What runs a page's model.
pub(super) type PageEngine = AnyEngine<Module>;

/// A kernel module that holds a model.
pub struct Module {
    /// The object that runs it.
    pub js: KernelModule,
    n_layer: usize,
    /// How many texts the pass under way has, and whether it computes attention weights.
    under_way: Cell<(usize, bool)>,
}

impl Module {
    /// Makes room for a model.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]
    pub fn create(js: KernelModule, config: &crate::checkpoint::Config, dtype: gpt2_kernels::Dtype) -> Result<Self> {
        let dims = config.dims();
        let flags = u32::from(dims.scale_attn_weights)
            | u32::from(dims.scale_attn_by_inverse_layer_idx) << 1
            | u32::from(dims.tie_word_embeddings) << 2;
        let numbers = [
            dims.vocab_size as f64,
            dims.n_positions as f64,
            dims.n_embd as f64,
            dims.n_layer as f64,
            dims.n_head as f64,
            dims.n_inner as f64,
            f64::from(dims.activation as u32),
            f64::from(dims.layer_norm_epsilon),
            f64::from(flags),
        ];
        match js.create(&numbers, dtype as u32) as usize {
            0 => Err(crate::checkpoint::packing::out_of_memory(config, dtype)),
            _ => Ok(Self { js, n_layer: dims.n_layer, under_way: Cell::default() }),
        }
    }
}

impl Kernels for Module {
    fn new_cache(&self) -> usize {
        self.js.cache_new()
    }

    fn clone_cache(&self, cache: usize) -> Option<usize> {
        usize::try_from(self.js.cache_clone(cache)).ok()
    }

    fn truncate_cache(&self, cache: usize, n_tokens: usize) {
        self.js.cache_truncate(cache, n_tokens);
    }

    fn free_cache(&self, cache: usize) {
        self.js.cache_free(cache);
    }

    fn cache_bytes(&self, cache: usize) -> usize {
        self.js.cache_bytes(cache)
    }

    fn begin(&self, texts: &[Text], with_attentions: bool) -> Result<()> {
        self.under_way.set((texts.len(), with_attentions));
        let shares = texts.iter().flat_map(|t| [t.cache as u32, t.ids.len() as u32, t.rows as u32]);
        let plan: Vec<u32> = shares.chain(texts.iter().flat_map(|t| t.ids).copied()).collect();
        match self.js.forward_batch(&plan, texts.len(), with_attentions) {
            true => Ok(()),
            false => {
                let n_ids: usize = texts.iter().map(|t| t.ids.len()).sum();
                Err(Error::OutOfMemory { what: format!("a pass of {n_ids} tokens"), n_bytes: 0 })
            }
        }
    }

    fn advance(&self) -> Result<Option<Vec<Output>>> {
        if !self.js.advance() {
            return Ok(None);
        }
        let (n_texts, with_attentions) = self.under_way.get();
        let attentions = || (0..self.n_layer).map(|layer| self.js.attentions(layer).to_vec()).collect();
        let output =
            |text| Output { logits: self.js.logits(text).to_vec(), attentions: with_attentions.then(attentions) };
        Ok(Some((0..n_texts).map(output).collect()))
    }

    async fn pause(&self) -> Result<()> {
        if self.js.pause().await.is_truthy() { Ok(()) } else { Err(Error::Interrupted) }
    }
}
