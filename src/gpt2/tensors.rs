//! The tensors of a checkpoint on a device, by name, until the model takes them.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::weights::Sink;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::weights::CheckpointStream;

    #[test]
    fn a_tensor_beyond_memory_is_an_error() {
        let json =
            r#"{"model_type":"gpt2","vocab_size":1048576,"n_positions":1,"n_embd":1048576,"n_head":1,"n_layer":1}"#;
        let config = Config::from_json(json).unwrap();
        let n = 1u64 << 42;
        let header = format!(r#"{{"wte.weight":{{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,{n}]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
        let mut stream = CheckpointStream::new(config, Tensors::new(Device::flex()));
        stream.begin_file("model.safetensors", None).unwrap();
        let found = stream.write(&bytes);
        // where the system promises memory that it does not have, the file ends before it is needed
        let error = found.and_then(|()| stream.finish().map(|_| ())).unwrap_err();
        assert!(error.to_string().contains("wte.weight"), "{error}");
    }
}
