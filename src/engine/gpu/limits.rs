//! Numbers that buffers, kernels and shaders have to agree on.

/// The largest number of pieces that the attention of a single token cuts the keys into. Every workgroup of `c_proj`
/// reads all pieces, so more of them cost time there.
pub(crate) const MAX_PIECES: usize = 16;
/// Keys of a tile of an attention, `TILE_KEYS` in `wgsl/attention_order.wgsl`.
pub(crate) const TILE_KEYS: usize = 64;
/// Threads that share a sum over a row or a tile (`wgsl/total.wgsl`): the fewest that a workgroup which needs one has.
pub(crate) const SUM_THREADS: usize = 64;
/// Texts of one pass.
pub(crate) const MAX_TEXTS: usize = 8;
/// Texts whose caches one dispatch binds: with the three buffers beside them as many as WebGPU's default limit allows,
/// and a divisor of [`MAX_TEXTS`].
pub(crate) const CACHES_AT_ONCE: usize = 4;
/// Tokens for which a product is computed as one for single tokens.
pub(crate) const MAX_FEW: usize = 8;
/// How many of the best logits the kernel `choose` can report.
pub const MAX_K: usize = 64;
/// Workgroups that search for the best logits.
pub(crate) const N_PIECES: usize = 64;
/// Bytes of `Params` in `wgsl/params.wgsl`.
pub(crate) const PARAMS_BYTES: usize = 96;
/// WebGPU's default limit of threads in a workgroup.
pub(crate) const MAX_THREADS: usize = 256;
/// WebGPU's default limit of storage buffers in a shader stage, which no kernel goes beyond.
pub(crate) const MAX_STORAGE_BUFFERS: u32 = 8;
