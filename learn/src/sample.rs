//! Text from a model that is still learning.

use gpt2_web::sampler::{Sampler, SamplingParams};
use gpt2_web::tokenizer::Tokenizer;

use crate::Result;
use crate::fused::{Model, View, ViewMut, Workspace, Write, product};
use crate::start::Coins;

/// Writes `n_tokens` after a prompt, at most until the context is full, with the page's usual options.
///
/// # Errors
/// What tokenizer and sampler say.
pub fn sample(
    model: &Model,
    params: &[f32],
    tokenizer: &Tokenizer,
    prompt: &str,
    n_tokens: usize,
    seed: u64,
) -> Result<String> {
    let (v, c) = (model.config.vocab_size, model.config.n_embd);
    let mut ids = tokenizer.encode_prompt(prompt)?;
    let n_prompt = ids.len();
    let chosen = SamplingParams { do_sample: true, temperature: 0.8, top_k: 40, ..SamplingParams::default() };
    let mut sampler = Sampler::new(chosen);
    let mut coins = Coins::new(seed);
    let (mut space, mut logits) = (Workspace::default(), vec![0.0; v]);
    while ids.len() < (n_prompt + n_tokens).min(model.config.n_positions) {
        let hidden = model.hidden(params, &ids, ids.len(), &mut space);
        let last = View::new(&hidden[hidden.len() - c..], 1, c);
        let head = View::new(&params[model.layout.head.clone()], v, c).t();
        product(ViewMut::new(&mut logits, 1, v), Write::Replace, 1.0, last, head);
        let id = sampler.pick(&logits, &ids, n_prompt, coins.flip())?;
        if model.config.eos_token_ids.contains(&id) {
            break;
        }
        ids.push(id);
    }
    Ok(tokenizer.decode(&ids)?)
}
