//! Packed weights as the cache keeps them: any bytes as the image of a small model, run through the kernels.
#![no_main]

use gpt2_kernels::{Activation, Dims, Dtype, PackedModel, Rows};
use gpt2_web::sampler::{Sampler, SamplingParams, argmax};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

/// Bytes that say what the model is; what follows them is its image.
const N_HEAD: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, image)) = bytes.split_first_chunk::<N_HEAD>() else { return };
    let [dtype, activation, flags, v, n, n_layer, n_head, d, n_inner, n_prompt] = head.map(usize::from);
    let n_head = 1 + n_head % 4;
    let dims = Dims {
        vocab_size: 1 + v % 40,
        n_positions: 2 + n % 140, // up to three passes, and as many pages of the cache
        n_embd: n_head * (1 + d % 40),
        n_layer: 1 + n_layer % 2,
        n_head,
        n_inner: 1 + n_inner % 80,
        activation: {
            use Activation::{Gelu, GeluNew, Relu, Silu, Tanh};
            [GeluNew, Gelu, Relu, Silu, Tanh][activation % 5]
        },
        layer_norm_epsilon: 1e-5,
        scale_attn_weights: flags & 1 != 0,
        scale_attn_by_inverse_layer_idx: flags & 2 != 0,
        tie_word_embeddings: flags & 4 != 0,
    };
    let Some(mut model) = PackedModel::new(dims, Dtype::ALL[dtype % 4]) else { unreachable!("it is small") };
    // an input is shorter than most images: it is laid out over and over
    for (to, from) in model.image_mut().iter_mut().zip(image.iter().cycle()) {
        *to = *from;
    }

    let (mut scratch, mut cache) = (model.scratch(1), model.new_cache());
    let ids: Vec<u32> = (0..dims.n_positions).map(|i| ((i * 7 + v) % dims.vocab_size) as u32).collect();
    let (prompt, last) = ids.split_at(1 + n_prompt % (dims.n_positions - 1));
    let output = model.forward_alone(&mut scratch, &mut cache, prompt, Rows::All, true);
    assert_eq!(output.logits.len(), prompt.len() * dims.vocab_size);
    assert_eq!(output.attentions.len(), dims.n_layer);
    let decoded = model.forward_alone(&mut scratch, &mut cache, &last[..1], Rows::Last, false);
    assert_eq!(cache.n_tokens(), prompt.len() + 1);

    // whatever the numbers are, a token is picked or the logits are told to be wrong
    let logits = &decoded.logits;
    let picked =
        [brief(argmax(logits)), brief(Sampler::new(SamplingParams::default()).pick(logits, prompt, prompt.len(), 0.5))];
    assert!(picked.iter().flatten().all(|&id| (id as usize) < dims.vocab_size), "{picked:?}");

    // a cut cache is gone on with
    cache.truncate(prompt.len());
    let again = model.forward_alone(&mut scratch, &mut cache, &last[..1], Rows::Last, false);
    let bits = |logits: &[f32]| -> Vec<u32> {
        // which NaN it is may differ
        logits.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect()
    };
    assert_eq!(bits(&again.logits), bits(logits), "the same step twice");
});
