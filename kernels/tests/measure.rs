//! What the benches rely on: random weights that are valid in every format, and passes that report their ops in order.

use std::slice::from_mut;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use gpt2_kernels::noise::fill;
use gpt2_kernels::team::Platform;
use gpt2_kernels::{Activation, Dims, Dtype, Forward, Op, PackedModel, Rows};

const DIMS: Dims = Dims {
    vocab_size: 101,
    n_positions: 64,
    n_embd: 48,
    n_layer: 2,
    n_head: 3,
    n_inner: 192,
    activation: Activation::GeluNew,
    layer_norm_epsilon: 1e-5,
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
    tie_word_embeddings: true,
};

static OPS: Mutex<Vec<Op>> = Mutex::new(Vec::new());

/// One thread, which writes down each op that is done.
enum Noting {}

impl Platform for Noting {
    fn sleep(_: &AtomicU32, _: u32) {}
    fn wake(_: &AtomicU32) {}
    fn done(op: Op) {
        OPS.lock().expect("no panic").push(op);
    }
}

#[test]
fn noise_is_valid_in_every_format_and_a_pass_tells_its_ops() {
    for dtype in Dtype::ALL {
        let mut model = PackedModel::new(DIMS, dtype).expect("memory");
        fill(&mut model, 1);
        let (mut scratch, mut cache) = (model.scratch(1), model.new_cache());
        OPS.lock().expect("no panic").clear();
        let mut forward = Forward::new(vec![3, 1, 4, 1, 5], Rows::All, false);
        assert!(model.forward(&mut forward, &mut scratch, from_mut(&mut cache), |pass| pass.run::<Noting>(0)));
        let output = &forward.outputs[0];
        assert_eq!(output.logits.len(), 5 * DIMS.vocab_size);
        assert!(output.logits.iter().all(|x| x.is_finite()), "{dtype:?}");
        let (low, high) = output.logits.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        assert!(high - low > 0.01, "{dtype:?}: logits between {low} and {high}");
        let block = [Op::Qkv, Op::Attention, Op::Proj, Op::Fc, Op::Proj2];
        let expected = [&[Op::Embed][..], &block, &block, &[Op::Head]].concat();
        assert_eq!(*OPS.lock().expect("no panic"), expected);
    }
}
