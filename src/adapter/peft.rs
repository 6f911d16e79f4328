//! `adapter_model.safetensors`: the matrices A and B of each module.

use gpt2_kernels::Op;

use super::config::LoraConfig;
use crate::checkpoint::{Config, Header, PREFIX_BYTES, StoredDtype, TensorInfo};
use crate::error::{Error, Result};

pub use super::config::CONFIG_FILE;

/// The file's name.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// The modules of a block that an adapter may have parts for, and the matrices that they are.
pub const MODULES: [(&str, Op); 4] =
    [("attn.c_attn", Op::Qkv), ("attn.c_proj", Op::Proj), ("mlp.c_fc", Op::Fc), ("mlp.c_proj", Op::Proj2)];

/// What is added to one matrix of R outputs and K inputs: y + s B (A x).
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// The block.
    pub layer: usize,
    /// The matrix in it.
    pub op: Op,
    /// r
    pub rank: usize,
    /// A: [r, K], row-major
    pub a: Vec<f32>,
    /// B: [R, r], row-major
    pub b: Vec<f32>,
    /// s
    pub scale: f32,
}

/// An adapter that fits a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its parts, in the order of the blocks.
    pub parts: Vec<LowRank>,
}

/// The two tensors of a module, as far as they have been found.
#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a TensorInfo>,
    b: Option<&'a TensorInfo>,
}

impl Adapter {
    /// Reads both files of an adapter that was made for a model of this configuration.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names what does not fit: a field, or a tensor that is missing, superfluous, of another
    /// shape or not finite.
    pub fn from_peft(model: &Config, config: &str, weights: &[u8]) -> Result<Self> {
        let config = LoraConfig::from_json(config)?;
        let (header, data) = split(weights)?;
        let mut pairs: Vec<[Pair; MODULES.len()]> = (0..model.n_layer).map(|_| Default::default()).collect();
        for tensor in &header.tensors {
            let (layer, module, is_a) = place(&tensor.name, model)?;
            let pair = &mut pairs[layer][module];
            let slot = if is_a { &mut pair.a } else { &mut pair.b };
            if slot.replace(tensor).is_some() {
                return Err(Error::tensor(WEIGHTS_FILE, &tensor.name, "one tensor for a module", "two"));
            }
        }
        let mut parts = Vec::new();
        for (layer, pairs) in pairs.iter().enumerate() {
            for (pair, (module, op)) in pairs.iter().zip(MODULES) {
                let name = format!("transformer.h.{layer}.{module}");
                match (pair.a, pair.b) {
                    (Some(a), Some(b)) => parts.push(part(model, &config, (layer, op), &name, [a, b], data)?),
                    (None, None) if !config.is_target(&name) => {}
                    (a, _) => {
                        let which = if a.is_none() { "lora_A" } else { "lora_B" };
                        let missing = format!("base_model.model.{name}.{which}.weight");
                        let expected = "the tensor, since the module has an adapter";
                        return Err(Error::tensor(WEIGHTS_FILE, missing, expected, "none of that name"));
                    }
                }
            }
        }
        if parts.is_empty() {
            return Err(Error::file(WEIGHTS_FILE, "tensors of an adapter", "none"));
        }
        Ok(Self { parts })
    }

    /// The largest rank of its parts.
    pub fn max_rank(&self) -> usize {
        self.parts.iter().map(|part| part.rank).max().unwrap_or(0)
    }

    /// The number of its parameters.
    pub fn n_params(&self) -> usize {
        self.parts.iter().map(|part| part.a.len() + part.b.len()).sum()
    }
}

fn split(weights: &[u8]) -> Result<(Header, &[u8])> {
    let short = || Error::file(WEIGHTS_FILE, "a safetensors file", format!("{} bytes", weights.len()));
    let (prefix, rest) = weights.split_first_chunk::<PREFIX_BYTES>().ok_or_else(short)?;
    let file_bytes = Some(weights.len() as u64);
    let n_json = Header::json_bytes(*prefix, WEIGHTS_FILE, file_bytes)?;
    let (json, data) = rest.split_at_checked(n_json).ok_or_else(short)?;
    Ok((Header::from_json(json, WEIGHTS_FILE, file_bytes)?, data))
}

/// Which module a tensor belongs to, and whether it is its A: (block, index in [`MODULES`], is A).
fn place(name: &str, model: &Config) -> Result<(usize, usize, bool)> {
    let surplus = |expected: &str| Error::tensor(WEIGHTS_FILE, name, expected, "another");
    let strange = || surplus("A and B of GPT-2's c_attn, c_proj and c_fc");
    let rest = name.strip_prefix("base_model.model.").unwrap_or(name);
    let rest = rest.strip_prefix("transformer.").unwrap_or(rest);
    let rest = rest.strip_prefix("h.").ok_or_else(strange)?;
    let (layer, rest) = rest.split_once('.').ok_or_else(strange)?;
    let layer: usize = layer.parse().map_err(|_| strange())?;
    // older versions of PEFT name the adapter as well
    let rest = rest.strip_suffix(".weight").ok_or_else(strange)?;
    let rest = rest.strip_suffix(".default").unwrap_or(rest);
    let (module, is_a) = match (rest.strip_suffix(".lora_A"), rest.strip_suffix(".lora_B")) {
        (Some(module), _) => (module, true),
        (_, Some(module)) => (module, false),
        _ => return Err(strange()),
    };
    let module = MODULES.iter().position(|(name, _)| *name == module).ok_or_else(strange)?;
    if layer >= model.n_layer {
        return Err(surplus(&format!("blocks h.0 to h.{}, since the model has no more", model.n_layer - 1)));
    }
    Ok((layer, module, is_a))
}

fn part(
    model: &Config,
    config: &LoraConfig,
    (layer, op): (usize, Op),
    name: &str,
    [a, b]: [&TensorInfo; 2],
    data: &[u8],
) -> Result<LowRank> {
    let (n_cols, n_rows) = gpt2_kernels::adapter::Adapter::shape(&model.dims(), op);
    let rank = config.rank_of(name);
    let numbers = |tensor: &TensorInfo, shape: [usize; 2]| {
        if tensor.shape != shape {
            let expected =
                format!("the shape {shape:?} (rank {rank}, by {CONFIG_FILE}; the model's {n_cols} and {n_rows})");
            return Err(Error::tensor(WEIGHTS_FILE, &tensor.name, expected, format!("{:?}", tensor.shape)));
        }
        let dtype = StoredDtype::from_name(&tensor.dtype)
            .ok_or_else(|| Error::tensor(WEIGHTS_FILE, &tensor.name, "F32, F16, BF16 or F64", tensor.dtype.clone()))?;
        let mut values = Vec::with_capacity(shape[0] * shape[1]);
        dtype.extend_f32(&mut values, &data[tensor.begin as usize..tensor.end as usize]);
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(Error::tensor(WEIGHTS_FILE, &tensor.name, "finite numbers", value.to_string())),
            None => Ok(values),
        }
    };
    let (a, b) = (numbers(a, [rank, n_cols])?, numbers(b, [n_rows, rank])?);
    Ok(LowRank { layer, op, rank, a, b, scale: config.scale_of(name) })
}
