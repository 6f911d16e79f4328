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

/// The name without the prefix that `GPT2LMHeadModel` saves and `GPT2Model` does not.
pub fn canonical(name: &str) -> &str {
    name.strip_prefix("transformer.").unwrap_or(name)
}

/// Whether a tensor of this (canonical) name holds no parameter: the causal mask that older checkpoints carry.
pub fn is_buffer(name: &str) -> bool {
    name.strip_prefix("h.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(layer, rest)| layer.parse::<usize>().is_ok() && matches!(rest, "attn.bias" | "attn.masked_bias"))
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
        assert!(is_buffer("h.3.attn.bias") && is_buffer("h.3.attn.masked_bias"));
        assert!(!is_buffer("h.3.attn.c_attn.bias") && !is_buffer("h.x.attn.bias"));
    }
}
