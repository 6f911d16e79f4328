//! Keys and values of the tokens so far, in pages, laid out in the order in which attention reads them.
//!
//! fp32 and fp16 models keep them as f32. q8 and q4 models keep each head's key and value of a token as i8 with a scale
//! of its own, which is about a quarter of the bytes: at 512 tokens of context a new token reads much of the cache
//! beside the weights.
//!
//! A copy of a cache shares the pages of the other. A page that several caches hold is copied when one of them is about
//! to write to it, so that texts with a common beginning hold it once.
//!
//! In reading order: `page` (how they lie), `attend` (what attention computes from them).

mod attend;
mod page;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

pub use attend::Query;
pub use page::{PAGE, padded_dim};

use crate::dims::Dims;
use attend::{add_page_values, page_scores};
use page::HeadPage;

/// Keys and values of one head of one block.
#[derive(Clone, Default)]
pub struct HeadCache {
    pages: Vec<Arc<HeadPage>>,
}

impl HeadCache {
    /// Stores key and value of token number `n`, for which there must be room. k, v: \[D\]
    pub fn put(&mut self, n: usize, k: &[f32], v: &[f32]) {
        // `Cache::reserve` has copied the page if another cache holds it, too
        Arc::make_mut(&mut self.pages[n / PAGE]).put(n % PAGE, k, v);
    }

    /// q · k of the first tokens, one for each of `scores`.
    pub fn scores(&self, q: &Query, scores: &mut [f32]) {
        for (page, scores) in self.pages.iter().zip(scores.chunks_mut(PAGE)) {
            page_scores(page, q, scores);
        }
    }

    /// Adds Σ weight · v over the first tokens, one for each of `weights`. out: [D'/4]
    pub fn add_values(&self, weights: &[f32], out: &mut [[f32; 4]]) {
        for (page, weights) in self.pages.iter().zip(weights.chunks(PAGE)) {
            add_page_values(page, weights, out);
        }
    }
}

/// Keys and values of one text.
#[derive(Clone)]
pub struct Cache {
    n_tokens: usize,
    /// [n_layer, H], each with enough pages for `n_tokens`.
    heads: Vec<HeadCache>,
    head_dim: usize,
    is_quantised: bool,
}

impl Cache {
    /// An empty cache.
    pub fn new(dims: &Dims, is_quantised: bool) -> Self {
        let heads = vec![HeadCache::default(); dims.n_layer * dims.n_head];
        Self { n_tokens: 0, heads, head_dim: dims.head_dim(), is_quantised }
    }

    /// How many tokens it holds.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Forgets all but the first `n_tokens`, and frees the pages that this empties.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.n_tokens = self.n_tokens.min(n_tokens);
        for head in &mut self.heads {
            head.pages.truncate(self.n_tokens.div_ceil(PAGE));
        }
    }

    /// Makes room for `n_new` more tokens: allocates pages, and copies those that it shares and would write to.
    pub fn reserve(&mut self, n_new: usize) {
        let (first, n_pages) = self.written_pages(n_new);
        for head in &mut self.heads {
            for page in head.pages.iter_mut().take(n_pages).skip(first) {
                Arc::make_mut(page);
            }
            let page = || Arc::new(HeadPage::new(self.is_quantised, self.head_dim));
            head.pages.resize_with(n_pages.max(head.pages.len()), page);
        }
    }

    /// Bytes that [`Self::reserve`] would allocate.
    pub fn reserve_bytes(&self, n_new: usize) -> usize {
        let (first, n_pages) = self.written_pages(n_new);
        let held = self.pages().take(n_pages).skip(first);
        let n_own = held.filter(|page| Arc::strong_count(page) == 1).count();
        (n_pages - first - n_own) * self.page_bytes()
    }

    /// The pages that `n_new` more tokens are written to: the first, and the one after the last.
    fn written_pages(&self, n_new: usize) -> (usize, usize) {
        (self.n_tokens / PAGE, (self.n_tokens + n_new).div_ceil(PAGE).max(self.n_tokens / PAGE))
    }

    /// The pages of one head, which stand for those of all: they are allocated, copied and freed together.
    fn pages(&self) -> impl Iterator<Item = &Arc<HeadPage>> {
        self.heads.iter().take(1).flat_map(|head| &head.pages)
    }

    /// Bytes of a page of every head.
    fn page_bytes(&self) -> usize {
        self.heads.len() * HeadPage::n_bytes(self.is_quantised, self.head_dim)
    }

    /// Bytes of its pages.
    pub fn n_bytes(&self) -> usize {
        self.pages().count() * self.page_bytes()
    }

    /// Bytes that several caches hold, to be given all that share pages. A shared page counts once.
    pub fn n_bytes_of<'a>(caches: impl Iterator<Item = &'a Self>) -> usize {
        // each of n caches that share a page counts an n-th of it
        let share = |page: &Arc<HeadPage>| 1.0 / Arc::strong_count(page) as f64;
        let bytes = |cache: &Self| cache.pages().map(share).sum::<f64>() * cache.page_bytes() as f64;
        libm::round(caches.map(bytes).sum()) as usize
    }

    /// Counts `n_new` more tokens, whose keys and values every head has stored.
    pub fn advance(&mut self, n_new: usize) {
        self.n_tokens += n_new;
    }

    /// All heads: [n_layer, H]
    pub fn heads_mut(&mut self) -> &mut [HeadCache] {
        &mut self.heads
    }
}
