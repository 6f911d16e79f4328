//! Smaller and sparser models: neurons that are taken out, heads and weights that are set to 0.

use serde_json::json;

use crate::checkpoint::Checkpoint;
use crate::fused::Model;
use crate::{Error, Result};

/// The places of the `n` least values, in ascending order.
pub fn least(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order.truncate(n);
    order.sort_unstable();
    order
}

/// The model without some neurons of each block: columns of `c_fc` and rows of `mlp.c_proj` go, and `n_inner` says how
/// many are left. gone: those of each block
///
/// # Errors
/// [`Error::Option`] unless every block loses equally many of those it has, and keeps one.
pub fn without_neurons(checkpoint: &Checkpoint, gone: &[Vec<usize>]) -> Result<Checkpoint> {
    let Checkpoint { model, config_json, params, .. } = checkpoint;
    let (n_layer, n_inner) = (model.config.n_layer, model.config.n_inner);
    let n_gone = gone.first().map_or(0, Vec::len);
    let is_fit = |list: &Vec<usize>| list.len() == n_gone && list.iter().all(|&neuron| neuron < n_inner);
    if gone.len() != n_layer || n_gone >= n_inner || !gone.iter().all(is_fit) {
        let expected = format!("equally many of each of the {n_layer} blocks' {n_inner}, fewer than all");
        return Err(Error::option("neurons", expected, format!("{:?}", gone.iter().map(Vec::len).collect::<Vec<_>>())));
    }
    let mut config = model.config.clone();
    config.n_inner -= n_gone;
    let small = Model::new(config, model.rates);
    let mut config_json = config_json.clone();
    config_json["n_inner"] = json!(small.config.n_inner);

    let mut small_params = vec![0.0; small.layout.n_params];
    for (slot, small_slot) in model.layout.slots.iter().zip(&small.layout.slots) {
        let values = &params[slot.range.clone()];
        let is_kept = |neuron: usize| !block_of(&slot.name).is_some_and(|layer| gone[layer].contains(&neuron));
        let kept: Vec<f32> = if slot.name.contains("mlp.c_fc.") {
            let kept = values.iter().enumerate().filter(|(i, _)| is_kept(i % n_inner));
            kept.map(|(_, &value)| value).collect()
        } else if slot.name.ends_with("mlp.c_proj.weight") {
            let kept = values.chunks_exact(slot.shape[1]).enumerate().filter(|(i, _)| is_kept(*i));
            kept.flat_map(|(_, row)| row).copied().collect()
        } else {
            values.to_vec()
        };
        small_params[small_slot.range.clone()].copy_from_slice(&kept);
    }
    Ok(Checkpoint { model: small, config_json, params: small_params, warnings: Vec::new() })
}

/// Sets some heads, (block, head), to 0: their rows of `attn.c_proj`. The shapes stay, for no configuration of GPT-2 can
/// say that a head is missing.
pub fn zero_heads(model: &Model, params: &mut [f32], gone: &[(usize, usize)]) {
    let c = model.config.n_embd;
    let n_values = c / model.config.n_head * c;
    for &(layer, head) in gone {
        let begin = model.layout.blocks[layer].c_proj.weight.start + head * n_values;
        params[begin..begin + n_values].fill(0.0);
    }
}

/// Sets the `share` of least absolute value in each of the blocks' matrices to 0. → how many
pub fn zero_least(model: &Model, params: &mut [f32], share: f64) -> usize {
    let mut n_all = 0;
    for slot in model.layout.slots.iter().filter(|slot| slot.is_block_matrix()) {
        let values = &mut params[slot.range.clone()];
        let n = (share * values.len() as f64).round_ties_even() as usize;
        let sizes: Vec<f64> = values.iter().map(|value| f64::from(value.abs())).collect();
        least(&sizes, n).into_iter().for_each(|i| values[i] = 0.0);
        n_all += n;
    }
    n_all
}

/// The block of a tensor `h.3.…`.
fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("h.")?.split('.').next()?.parse().ok()
}
