//! Which tensors a GPT-2 has, under their names in the checkpoint.

use super::config::Config;

/// Name and shape of every tensor that the model needs, in the order of the forward pass.
pub fn expected_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (v, c, inner) = (config.vocab_size, config.n_embd, config.n_inner);
    let mut tensors =
        vec![("wte.weight".to_string(), vec![v, c]), ("wpe.weight".to_string(), vec![config.n_positions, c])];
    for layer in 0..config.n_layer {
        let mut add = |name: &str, weight: Vec<usize>| {
            let bias = vec![*weight.last().unwrap_or(&c)];
            tensors.push((format!("h.{layer}.{name}.weight"), weight));
            tensors.push((format!("h.{layer}.{name}.bias"), bias));
        };
        add("ln_1", vec![c]);
        add("attn.c_attn", vec![c, 3 * c]);
        add("attn.c_proj", vec![c, c]);
        add("ln_2", vec![c]);
        add("mlp.c_fc", vec![c, inner]);
        add("mlp.c_proj", vec![inner, c]);
    }
    tensors.push(("ln_f.weight".to_string(), vec![c]));
    tensors.push(("ln_f.bias".to_string(), vec![c]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_string(), vec![v, c]));
    }
    tensors
}

/// Number of parameters, a tied head counted once.
pub fn n_params(config: &Config) -> u64 {
    expected_tensors(config).iter().map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
}

/// The name without what stands before it where the model was a part of something when it was saved:
/// `GPT2LMHeadModel` puts `transformer.` there, and so do wrappers for training, compiling and fine-tuning.
pub fn canonical(mut name: &str) -> &str {
    const PREFIXES: [&str; 8] = [
        "transformer.",
        "module.",
        "_orig_mod.",
        "_fsdp_wrapped_module.",
        "pretrained_model.",
        "base_model.",
        "model.",
        "gpt2.",
    ];
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// Whether a tensor of this (canonical) name holds no parameter: the causal mask that older checkpoints carry.
pub fn is_buffer(name: &str) -> bool {
    matches!(in_block(name), Some("attn.bias" | "attn.masked_bias"))
}

/// Whether a tensor of this (canonical) name belongs to a block, where all of them count.
pub(super) fn is_in_block(name: &str) -> bool {
    in_block(name).is_some()
}

/// Whether a name is one that tools for quantised models give to what they add.
pub(super) fn is_of_quantised(name: &str) -> bool {
    const PARTS: [&str; 13] = [
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
        "SCB",
        "weight_format",
        "absmax",
        "nested_absmax",
        "quant_map",
        "nested_quant_map",
        "quant_state",
        "weight_scale",
        "_packed_params",
    ];
    name.split('.').any(|part| PARTS.contains(&part))
}

/// What follows the block's number in a name.
fn in_block(name: &str) -> Option<&str> {
    let (layer, rest) = name.strip_prefix("h.")?.split_once('.')?;
    layer.parse::<usize>().is_ok().then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_hub_checkpoint() {
        let config = Config::from_json(r#"{"model_type":"gpt2"}"#).unwrap();
        let names = expected_tensors(&config);
        assert_eq!(names.len(), 2 + 12 * 12 + 2);
        assert_eq!(n_params(&config), 124_439_808);
        assert!(names.contains(&("h.11.mlp.c_proj.weight".to_string(), vec![3072, 768])));
        assert_eq!(canonical("transformer.h.0.ln_1.bias"), "h.0.ln_1.bias");
        assert_eq!(canonical("module._orig_mod.transformer.wte.weight"), "wte.weight");
        assert_eq!(canonical("pretrained_model.lm_head.weight"), "lm_head.weight");
        assert!(is_of_quantised("h.0.attn.c_attn.qweight") && is_of_quantised("h.0.mlp.c_fc.weight.absmax"));
        assert!(!is_of_quantised("h.0.attn.c_attn.weight"));
        assert!(is_buffer("h.3.attn.bias") && is_buffer("h.3.attn.masked_bias"));
        assert!(!is_buffer("h.3.attn.c_attn.bias") && !is_buffer("h.x.attn.bias"));
    }
}
