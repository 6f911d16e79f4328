//! The unit in which packed weights are read.

/// 16 bytes of packed weights, all of one row of a matrix.
pub type Chunk = [u8; 16];
