//! Numbers that buffers, kernels and shaders have to agree on.

/// Pieces that a decoding attention cuts the keys into at most: each one more is read again by every workgroup of `c_proj`.
pub(crate) const MAX_SPLITS: usize = 8;
/// How many of the best logits `choose` can tell.
pub const MAX_K: usize = 64;
/// Workgroups that look for them.
pub(crate) const N_PIECES: usize = 64;
/// WebGPU's default limit of threads in a workgroup.
pub(crate) const MAX_THREADS: usize = 256;
