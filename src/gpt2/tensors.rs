//! The tensors of a checkpoint on a device, by name, from which the model is assembled.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};

/// Tensors that are on their device already, flat, with their shapes.
#[derive(Debug)]
pub struct Tensors {
    device: Device,
    by_name: HashMap<String, (Tensor<1>, Vec<usize>)>,
}

impl Tensors {
    /// An empty collection on this device.
    pub fn new(device: Device) -> Self {
        Self { device, by_name: HashMap::new() }
    }

    /// The device that they are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Puts a tensor on the device. `values`: row-major, as many as `shape` says.
    pub fn insert(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        let n = values.len();
        let tensor = Tensor::from_data(TensorData::new(values, [n]), &self.device);
        self.insert_flat(name, shape, tensor);
    }

    /// Puts a tensor there that is on the device already. flat: row-major, as many values as `shape` says
    pub fn insert_flat(&mut self, name: String, shape: Vec<usize>, flat: Tensor<1>) {
        self.by_name.insert(name, (flat, shape));
    }

    /// Takes the tensor of that name out.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none or it does not have `N` dimensions.
    pub fn take<const N: usize>(&mut self, name: &str) -> Result<Tensor<N>> {
        const FILE: &str = "checkpoint";
        let (tensor, shape) = self
            .by_name
            .remove(name)
            .ok_or_else(|| Error::tensor(FILE, name, format!("a tensor of {N} dimensions"), "no such tensor"))?;
        let dims: [usize; N] = shape
            .as_slice()
            .try_into()
            .map_err(|_| Error::tensor(FILE, name, format!("{N} dimensions"), format!("{shape:?}")))?;
        Ok(tensor.reshape(dims))
    }
}
