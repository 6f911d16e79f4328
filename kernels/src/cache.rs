//! Keys and values of the tokens so far, in pages, laid out in the order in which attention reads them.
//!
//! fp32 and fp16 models keep them as f32. q8 and q4 models keep each head's key and value of a token as i8 with a scale
//! of its own, a quarter of the bytes: at 512 tokens of context they are what a token reads beside the weights.

use alloc::vec;
use alloc::vec::Vec;

use crate::layout::Dims;
use crate::simd::{F32x4, I16x8, I32x4, magnitude, nearest_i16, widen_i8};

/// Tokens in one page; even, since values are stored in pairs of tokens. Reading begins anew at each page, which costs some
/// percent of a token at 64, and a short text takes a whole one.
pub const PAGE: usize = 128;

/// One page of one head: its keys and values.
#[derive(Clone)]
enum HeadPage {
    /// Row-major [PAGE, D'/4] each, D' being D padded with zeros.
    F32 {
        /// k
        keys: Vec<[f32; 4]>,
        /// v
        values: Vec<[f32; 4]>,
    },
    /// D padded to a multiple of 16.
    I8 {
        /// [PAGE, D'/16]
        keys: Vec<[u8; 16]>,
        /// [PAGE]
        key_scales: Vec<f32>,
        /// [PAGE/2, D'/8], each 16 bytes the same eight dimensions of two tokens, in turn
        values: Vec<[u8; 16]>,
        /// [PAGE]
        value_scales: Vec<f32>,
    },
}

impl HeadPage {
    fn new(is_quantised: bool, head_dim: usize) -> Self {
        let d = padded_dim(head_dim);
        match is_quantised {
            false => Self::F32 { keys: vec![[0.0; 4]; PAGE * d / 4], values: vec![[0.0; 4]; PAGE * d / 4] },
            true => Self::I8 {
                keys: vec![[0; 16]; PAGE * d / 16],
                key_scales: vec![0.0; PAGE],
                values: vec![[0; 16]; PAGE * d / 16],
                value_scales: vec![0.0; PAGE],
            },
        }
    }

    /// Bytes of one page.
    fn n_bytes(is_quantised: bool, head_dim: usize) -> usize {
        let n_values = 2 * PAGE * padded_dim(head_dim);
        if is_quantised { n_values + 2 * PAGE * 4 } else { n_values * 4 }
    }

    /// Stores key and value of the token in `slot`. k, v: \[D\]
    fn put(&mut self, slot: usize, k: &[f32], v: &[f32]) {
        let d = padded_dim(k.len());
        match self {
            Self::F32 { keys, values } => {
                for (into, from) in [(keys, k), (values, v)] {
                    let into = into[slot * d / 4..][..d / 4].as_flattened_mut();
                    into[..from.len()].copy_from_slice(from);
                }
            }
            Self::I8 { keys, key_scales, values, value_scales } => {
                let (keys, _) = keys[slot * d / 16..][..d / 16].as_flattened_mut().as_chunks_mut::<8>();
                key_scales[slot] = quantise(k, keys.iter_mut(), |into, i, q| into[i] = q);
                let pair = &mut values[slot / 2 * d / 8..][..d / 8];
                value_scales[slot] = quantise(v, pair.iter_mut(), |into, i, q| into[2 * i + slot % 2] = q);
            }
        }
    }
}

/// D', a multiple of 16.
pub fn padded_dim(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// Rounds x / s to ±127 and hands it on with each eighth place. → s, NaN if x is not finite
fn quantise<'a, T: 'a>(x: &[f32], into: impl Iterator<Item = &'a mut T>, put: impl Fn(&mut T, usize, u8)) -> f32 {
    let (largest, nothing) = magnitude(x);
    let inverse = F32x4::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    for (into, x) in into.zip(eights(x)) {
        let mut quants = [0; 8];
        nearest_i16(&x, inverse).store(&mut quants);
        for (i, q) in quants.into_iter().enumerate() {
            put(into, i, q.clamp(-127, 127) as u8);
        }
    }
    largest / 127.0 + nothing
}

/// Eight numbers at a time, the last of them filled up with zeros.
fn eights(x: &[f32]) -> impl Iterator<Item = [f32; 8]> {
    let (whole, rest) = x.as_chunks::<8>();
    let mut last = [0.0; 8];
    last[..rest.len()].copy_from_slice(rest);
    whole.iter().copied().chain((!rest.is_empty()).then_some(last))
}

/// Keys and values of one head of one block.
#[derive(Clone, Default)]
pub struct Head {
    pages: Vec<HeadPage>,
}

impl Head {
    /// Stores key and value of token number `n`, for which there must be room. k, v: \[D\]
    pub fn put(&mut self, n: usize, k: &[f32], v: &[f32]) {
        self.pages[n / PAGE].put(n % PAGE, k, v);
    }

    /// q · kᵀ for the first tokens, one for each of `scores`.
    pub fn scores(&self, q: &Query, scores: &mut [f32]) {
        for (page, scores) in self.pages.iter().zip(scores.chunks_mut(PAGE)) {
            page_scores(page, q, scores);
        }
    }

    /// Adds Σ weight · v over the first tokens. weights: one for each; out: [D'/4]
    pub fn add_values(&self, weights: &[f32], out: &mut [[f32; 4]]) {
        for (page, weights) in self.pages.iter().zip(weights.chunks(PAGE)) {
            add_page_values(page, weights, out);
        }
    }
}

/// The cache of one text.
#[derive(Clone)]
pub struct Cache {
    n_tokens: usize,
    /// [n_layer, H], each with pages enough for `n_tokens`.
    heads: Vec<Head>,
    head_dim: usize,
    is_quantised: bool,
}

impl Cache {
    /// An empty cache.
    pub fn new(dims: &Dims, is_quantised: bool) -> Self {
        let heads = vec![Head::default(); dims.n_layer * dims.n_head];
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

    /// Makes room for `n_new` tokens more.
    pub fn reserve(&mut self, n_new: usize) {
        let n_pages = (self.n_tokens + n_new).div_ceil(PAGE);
        for head in &mut self.heads {
            head.pages.resize_with(n_pages.max(head.pages.len()), || HeadPage::new(self.is_quantised, self.head_dim));
        }
    }

    /// Bytes that [`Self::reserve`] would allocate.
    pub fn reserve_bytes(&self, n_new: usize) -> usize {
        let n_held = self.heads.first().map_or(0, |h| h.pages.len());
        let n_pages = (self.n_tokens + n_new).div_ceil(PAGE).saturating_sub(n_held);
        n_pages * self.heads.len() * HeadPage::n_bytes(self.is_quantised, self.head_dim)
    }

    /// Bytes of its pages.
    pub fn n_bytes(&self) -> usize {
        let n_pages: usize = self.heads.iter().map(|h| h.pages.len()).sum();
        n_pages * HeadPage::n_bytes(self.is_quantised, self.head_dim)
    }

    /// Counts tokens whose keys and values have been put.
    pub fn advance(&mut self, n_new: usize) {
        self.n_tokens += n_new;
    }

    /// The heads: [n_layer, H]
    pub fn heads_mut(&mut self) -> &mut [Head] {
        &mut self.heads
    }
}

/// A query, ready for either kind of page.
pub struct Query {
    /// [D'/4], times the scale of the scores
    f32s: Vec<[f32; 4]>,
    /// [D'/8], in units of `scale`
    i16s: Vec<[i16; 8]>,
    scale: f32,
}

impl Query {
    /// Room for one head.
    pub fn new(head_dim: usize) -> Self {
        let d = padded_dim(head_dim);
        Self { f32s: vec![[0.0; 4]; d / 4], i16s: vec![[0; 8]; d / 8], scale: 0.0 }
    }

    /// q · scale. q: \[D\]
    pub fn set(&mut self, q: &[f32], scale: f32) {
        let f32s = self.f32s.as_flattened_mut();
        for (into, q) in f32s.iter_mut().zip(q) {
            *into = q * scale;
        }
        let (largest, nothing) = magnitude(f32s);
        // a lane adds D'/4 products of at most 32767 · 127: no overflow below D = 2000
        const Q_MAX: f32 = 32767.0;
        let inverse = if largest > 0.0 { Q_MAX / largest } else { 0.0 };
        for (into, q) in self.i16s.iter_mut().zip(f32s.as_chunks().0) {
            nearest_i16(q, F32x4::splat(inverse)).store(into);
        }
        self.scale = largest / Q_MAX + nothing;
    }
}

/// Scores of the page's first tokens, one for each of `scores`. (Not inlined: see `product::dot_one`.)
#[inline(never)]
fn page_scores(page: &HeadPage, q: &Query, scores: &mut [f32]) {
    match page {
        HeadPage::F32 { keys, .. } => {
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(q.f32s.len())) {
                let dot = |sum: F32x4, (k, q)| F32x4::load(k).madd(F32x4::load(q), sum);
                let [a, b, c, d] = key.iter().zip(&q.f32s).fold(F32x4::splat(0.0), dot).lanes();
                *score = (a + c) + (b + d);
            }
        }
        HeadPage::I8 { keys, key_scales, .. } => {
            let q16 = q.i16s.as_chunks::<2>().0;
            let dot = |key: &[[u8; 16]]| {
                let sum = key.iter().zip(q16).fold(I32x4::zero(), |sum, (k, q)| {
                    let [low, high] = widen_i8(k);
                    sum + low.dot(I16x8::load(&q[0])) + high.dot(I16x8::load(&q[1]))
                });
                sum.to_f32()
            };
            let mut tokens = keys.chunks_exact(q16.len());
            for (scores, scales) in scores.chunks_mut(4).zip(key_scales.as_chunks::<4>().0) {
                // the page is whole, so there are four keys even where fewer are asked for
                let sums = core::array::from_fn(|_| tokens.next().map_or(F32x4::splat(0.0), dot));
                let four = F32x4::sums(sums) * F32x4::load(scales) * F32x4::splat(q.scale);
                scores.copy_from_slice(&four.lanes()[..scores.len()]);
            }
        }
    }
}

/// Adds Σ weight · v over the page's first tokens, one for each of `weights`. (Not inlined: see `product::dot_one`.)
#[inline(never)]
fn add_page_values(page: &HeadPage, weights: &[f32], out: &mut [[f32; 4]]) {
    match page {
        HeadPage::F32 { values, .. } => {
            for (&weight, value) in weights.iter().zip(values.chunks_exact(out.len())) {
                let weight = F32x4::splat(weight);
                for (out, v) in out.iter_mut().zip(value) {
                    F32x4::load(v).madd(weight, F32x4::load(out)).store(out);
                }
            }
        }
        HeadPage::I8 { values, value_scales, .. } => {
            // the values' scales go into the weights, and these become i16: a lane adds PAGE products below 2³¹
            const W_MAX: f32 = 32767.0;
            let mut scaled = [0.0; PAGE];
            for ((scaled, w), s) in scaled.iter_mut().zip(weights).zip(value_scales) {
                *scaled = w * s;
            }
            let scaled = &scaled[..weights.len().next_multiple_of(8)];
            let (largest, nothing) = magnitude(scaled);
            let inverse = if largest > 0.0 { W_MAX / largest } else { 0.0 };
            let mut quants = [[0_i16; 8]; PAGE / 8];
            for (into, w) in quants.iter_mut().zip(scaled.as_chunks().0) {
                nearest_i16(w, F32x4::splat(inverse)).store(into);
            }
            let pairs = &quants.as_flattened().as_chunks::<2>().0[..weights.len().div_ceil(2)];
            let scale = F32x4::splat(largest / W_MAX + nothing);
            let n = out.len() / 2; // 16-byte pieces of a pair
            for (piece, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                add_piece::<4>(values, pairs, n, piece * 4, scale, out);
            }
            let done = out.len() / 8 * 4;
            for (piece, out) in out[done * 2..].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                add_piece::<1>(values, pairs, n, done + piece, scale, out);
            }
        }
    }
}

/// `N` neighbouring 16-byte pieces of every pair, from `first` of `n`. out: [2 N]
#[inline(always)]
fn add_piece<const N: usize>(
    values: &[[u8; 16]],
    pairs: &[[i16; 2]],
    n: usize,
    first: usize,
    scale: F32x4,
    out: &mut [[f32; 4]],
) {
    let mut sums = [[I32x4::zero(); 2]; N];
    for (value, &pair) in values.chunks_exact(n).zip(pairs) {
        let weight = I16x8::splat_pair(pair);
        for (sum, piece) in sums.iter_mut().zip(&value[first..first + N]) {
            let [low, high] = widen_i8(piece);
            *sum = [sum[0] + low.dot(weight), sum[1] + high.dot(weight)];
        }
    }
    for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
        sum.to_f32().madd(scale, F32x4::load(out)).store(out);
    }
}
