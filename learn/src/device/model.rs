//! The model's parameters on one device, each a leaf of the autodiff.

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData};
use gpt2_web::gpt2::{Gpt2, Tensors};

use crate::Result;
use crate::fused::{Model, Rows};

/// A model on one device.
#[derive(Debug)]
pub struct Replica {
    device: Device,
    /// What products of matrices are computed in.
    precision: DType,
    /// One for each slot of the layout, flat.
    pub leaves: Vec<Tensor<1>>,
}

impl Replica {
    /// Puts parameters on a device.
    pub fn new(model: &Model, params: &[f32], device: Device, precision: DType) -> Self {
        let leaf = |range: std::ops::Range<usize>| {
            let data = TensorData::new(params[range.clone()].to_vec(), [range.len()]);
            Tensor::<1>::from_data(data, &device).require_grad()
        };
        let leaves = model.layout.slots.iter().map(|slot| leaf(slot.range.clone())).collect();
        Self { device, precision, leaves }
    }

    /// Takes the parameters of another device.
    pub fn copy_from(&mut self, params: &[Tensor<1>]) {
        let device = self.device.clone().inner();
        let strategy = self.device.gradient_checkpointing_strategy();
        let leaf = |param: &Tensor<1>| {
            let leaf = Tensor::from_inner(param.clone().to_device(&device));
            match strategy {
                Some(strategy) => leaf.with_gradient_checkpointing_strategy(strategy).require_grad(),
                None => leaf.require_grad(),
            }
        };
        self.leaves = params.iter().map(leaf).collect();
    }

    /// Σ -ln p(label) over the labels of some rows, from which gradients can be had.
    pub fn loss(&self, model: &Model, rows: Rows) -> Result<Tensor<1>> {
        self.nll(model, rows, &self.leaves, &self.device)
    }

    /// The same without gradients, and without keeping anything for them.
    pub fn score(&self, model: &Model, rows: Rows) -> Result<Tensor<1>> {
        let plain: Vec<Tensor<1>> = self.leaves.iter().map(|leaf| leaf.clone().inner()).collect();
        self.nll(model, rows, &plain, &self.device.clone().inner())
    }

    /// The model over these parameters.
    fn assemble(&self, model: &Model, params: &[Tensor<1>], device: &Device) -> Result<Gpt2> {
        let mut tensors = Tensors::new(device.clone());
        for (slot, param) in model.layout.slots.iter().zip(params) {
            tensors.insert_flat(slot.name.clone(), slot.shape.clone(), param.clone());
        }
        let mut gpt2 = Gpt2::load(&mut tensors, &model.config)?;
        if self.precision != DType::F32 {
            // embeddings, norms, attention and loss stay in 32 bits
            gpt2.lm_head.weight = gpt2.lm_head.weight.cast(self.precision);
            for block in &mut gpt2.h {
                let (attn, mlp) = (&mut block.attn, &mut block.mlp);
                for linear in [&mut attn.c_attn, &mut attn.c_proj, &mut mlp.c_fc, &mut mlp.c_proj] {
                    linear.weight = linear.weight.clone().cast(self.precision);
                }
            }
        }
        Ok(gpt2)
    }

    fn nll(&self, model: &Model, rows: Rows, params: &[Tensor<1>], device: &Device) -> Result<Tensor<1>> {
        let gpt2 = self.assemble(model, params, device)?;
        let n_rows = rows.ids.len() / rows.n_tokens;
        let ids: Vec<i32> = rows.ids.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [n_rows, rows.n_tokens]), device);
        let logprobs = log_softmax(gpt2.logits(gpt2.hidden_of_rows(ids)), 1); // [N T, V]
        let n = rows.labels.len();
        let known: Vec<i32> = rows.labels.iter().map(|&label| label.max(0)).collect();
        let counts: Vec<f32> = rows.labels.iter().map(|&label| f32::from(label >= 0)).collect();
        let known = Tensor::<2, Int>::from_data(TensorData::new(known, [n, 1]), device);
        let counts = Tensor::<2>::from_data(TensorData::new(counts, [n, 1]), device);
        Ok((logprobs.gather(1, known) * counts).sum().neg())
    }

    /// The gradient of each leaf; zeros for one that the loss does not depend on.
    pub fn gradients(&self, grads: &mut Gradients) -> Vec<Tensor<1>> {
        let of = |leaf: &Tensor<1>| leaf.grad_remove(grads).unwrap_or_else(|| leaf.clone().inner().zeros_like());
        self.leaves.iter().map(of).collect()
    }
}
