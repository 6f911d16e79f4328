//! The tensors of a checkpoint on a device, by name, until the model takes them.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::Sink;
use crate::error::{Error, Result};

/// Tensors that are on their device already, flat, with their shapes.
#[derive(Debug)]
pub struct Tensors {
    device: Device,
    by_name: HashMap<String, (Tensor<1>, Vec<usize>)>,
    /// The tensor that is arriving.
    arriving: (String, Vec<usize>, Vec<f32>),
}

impl Sink for Tensors {
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let n_bytes = shape.iter().fold(4, |n: u64, &d| n.saturating_mul(d as u64));
        let mut values = Vec::new();
        usize::try_from(n_bytes / 4)
            .ok()
            .and_then(|n| values.try_reserve_exact(n).ok())
            .ok_or_else(|| Error::OutOfMemory { what: format!("tensor `{name}`"), n_bytes })?;
        self.arriving = (name.to_string(), shape.to_vec(), values);
        Ok(())
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        self.arriving.2.extend_from_slice(values);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (name, shape, values) = std::mem::take(&mut self.arriving);
        let n = values.len();
        let tensor = Tensor::from_data(TensorData::new(values, [n]), &self.device);
        self.by_name.insert(name, (tensor, shape));
        Ok(())
    }
}

impl Tensors {
    /// None yet.
    pub fn new(device: Device) -> Self {
        Self { device, by_name: HashMap::new(), arriving: Default::default() }
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
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
