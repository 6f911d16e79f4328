//! Numbers that buffers, kernels and shaders have to agree on.

/// The largest number of pieces that a decoding attention cuts the keys into. Every workgroup of `c_proj` reads all
/// pieces, so more of them cost time there.
pub(crate) const MAX_SPLITS: usize = 8;
/// How many of the best logits the kernel `choose` can report.
pub const MAX_K: usize = 64;
/// Workgroups that search for the best logits.
pub(crate) const N_PIECES: usize = 64;
/// WebGPU's default limit of threads in a workgroup.
pub(crate) const MAX_THREADS: usize = 256;
/// WebGPU's default limit of storage buffers in a shader stage, which no kernel goes beyond.
pub(crate) const MAX_STORAGE_BUFFERS: u32 = 8;
