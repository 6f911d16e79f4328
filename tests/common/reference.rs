//! The model in Burn, which the engines are held against.

use std::path::Path;

use burn::tensor::Device;
use gpt2_web::checkpoint::{CheckpointReader, Config};
use gpt2_web::engine::{Reference, ReferenceSink};
use gpt2_web::gpt2::Tensors;

use super::{config, read_into};

/// Loads the checkpoint in `folder`, in pieces of `piece` bytes.
pub fn tensors(folder: &Path, device: &Device, piece: usize) -> (Config, Tensors) {
    let config = config(folder);
    let mut stream = CheckpointReader::new(config.clone(), ReferenceSink::new(device.clone()));
    read_into(&mut stream, folder, piece).expect("checkpoint");
    (config, stream.finish().expect("finish").0.into_tensors())
}

/// The reference engine with the checkpoint in `folder`, on the CPU.
pub fn reference(folder: &Path) -> Reference {
    let (config, tensors) = tensors(folder, &Device::flex(), 4096);
    Reference::new(config, tensors).expect("engine")
}
