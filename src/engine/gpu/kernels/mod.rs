//! The kernels: how WGSL becomes a dispatch, which dispatches a pass has, and how each is spread over threads.

mod access;
mod adapter;
mod batch;
mod kernel;
mod low_rank;
mod maker;
mod model;
mod params;
mod pipelines;
mod tuning;

pub(crate) use adapter::GpuAdapter;
pub(crate) use batch::{BatchLayer, BatchScratch, Width};
pub(crate) use kernel::{Dispatch, PassSize};
pub(crate) use maker::DispatchMaker;
pub(crate) use model::GpuModel;
pub(crate) use params::Params;
pub(crate) use pipelines::Pipelines;
pub use tuning::Tuning;
pub(crate) use tuning::{MATVEC_THREADS, THREAD_CHUNKS, TILES, TUNING_VERSION};

#[cfg(test)]
mod tests {
    /// A variable of a loop's body that has no initial value keeps the last round's in some browsers, against the
    /// language's rules.
    #[test]
    fn every_variable_of_a_shader_has_an_initial_value() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/gpu/kernels/wgsl");
        let mut n_variables = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let source = std::fs::read_to_string(&path).unwrap();
            for line in source.lines().map(str::trim).filter(|line| line.starts_with("var ")) {
                assert!(line.contains('='), "{}: no initial value: {line}", path.display());
                n_variables += 1;
            }
        }
        assert!(n_variables > 0);
    }
}
