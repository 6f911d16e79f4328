//! Sizes that several files agree on. They stand here so that no two files import each other for a number.

/// Rows of a matrix that are stored together.
pub const GROUP: usize = 4;

/// Columns are padded to a multiple of this: one block of q4, and a whole number of chunks in every format.
pub const BLOCK: usize = 32;

/// Columns of q8 whose sum is computed as an integer: 128 · 8191 · 2048, the largest there can be, fits an i32.
pub const SEGMENT: usize = 2048;

/// The offset of every part of the image is a multiple of this, bytes: GPUs bind buffers at such offsets.
pub const ALIGN: usize = 256;

/// The most tokens of one pass: the scratch has room for so many. With more tokens in a pass the weights are read less
/// often; with 64, the activations of GPT-2 124M still fit the second-level cache.
pub const MAX_TOKENS: usize = 64;
