//! The device's memory: the weights, each text's keys and values, and the buffers between kernels.

mod adapter;
mod cache;
mod fit;
mod image;
mod scratch;

pub(crate) use adapter::{LowRank, Parts};
pub(crate) use cache::CacheShape;
pub use cache::GpuCache;
pub use fit::check_limits;
pub use image::Plan;
pub(crate) use image::{Image, norm_range, rest_range};
pub(crate) use scratch::{Scratch, Widths, previous_power_of_two};
