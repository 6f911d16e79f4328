//! Every dispatch that a pass can make, with its pipeline and buffers: made once, at load.
//!
//! ```text
//! decode (T = 1)   embed | c_attn  attend  c_proj  c_fc  mlp.c_proj | head | top_k  choose     2 + 5 L, and 2 more
//! prefill          embed | ln_1  c_attn  attend  c_proj  ln_2  c_fc  mlp.c_proj | head
//! ```
//! With a LoRA adapter there is one more before each product that it has a part for.
//!
//! Decoding is bound by the bytes of the weights and by the number of dispatches, so there each norm, bias,
//! nonlinearity and residual sum is a part of a matrix product's kernel. In prefill the weights are read once for many
//! tokens.

use std::rc::Rc;

use gpt2_kernels::layout::Block;
use wgpu::Buffer;

use super::kernel::{Added, Dispatch, Extent, Kernel};
use super::maker::{DispatchMaker, Few, Finish, Many, Source, Texts};
use super::pipelines::Pipelines;
use super::tuning::Tuning;
use crate::checkpoint::Config;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::SUM_THREADS;
use crate::engine::gpu::memory::{Image, Parts, Scratch, Widths};
use crate::error::Result;

/// The dispatches of one block.
pub(crate) struct LayerDispatches {
    pub decode: Vec<Dispatch>,
    pub prefill: Vec<Dispatch>,
}

/// The dispatches of all passes.
pub(crate) struct GpuModel {
    pub tuning: Tuning,
    pub widths: Widths,
    pub scratch: Scratch,
    pub embed: Dispatch,
    pub layers: Vec<LayerDispatches>,
    /// Logits of the newest token.
    pub head: Dispatch,
    /// Logits of every new token.
    pub head_rows: [Dispatch; 2],
    /// The next token from the newest token's logits.
    pub choose: [Dispatch; 2],
}

impl GpuModel {
    pub fn new(
        config: &Config,
        image: &Image,
        context: &Rc<Context>,
        pipelines: &Pipelines,
        tuning: Tuning,
    ) -> Result<Self> {
        let widths = Widths::new(config, &context.device.limits())?;
        let scratch = Scratch::new(context, &widths);
        let make = DispatchMaker { config, image, w: widths, s: &scratch, pipelines, tuning };
        let layout = &image.layout;
        let no_adapter: Vec<Parts> = layout.blocks.iter().map(|_| Parts::default()).collect();
        let layers = layers(&make, &no_adapter)?;
        let (embed, choose) = (make.embed(None)?, make.choose()?);
        let logits = Finish::Plain(&scratch.logits, widths.vocab_padded);
        let head =
            make.matvec("head", layout.head(), Source::Norm(&layout.ln_f), logits, Few::Newest, Added::Nothing)?;
        let head_rows = [
            make.norm(&layout.ln_f, None)?,
            make.matmul("head", layout.head(), &scratch.normed, logits, Many::Tokens, Added::Nothing)?,
        ];
        Ok(Self { tuning, widths, embed, layers, head, head_rows, choose, scratch })
    }

    /// Dispatches that give the weights themselves: `q` and cache of layer `layer` → `result`, f32 [H, T, S].
    pub fn attention_weights(&self, config: &Config, layer: usize, result: &Buffer, p: &Pipelines) -> Result<Dispatch> {
        const THREADS: usize = SUM_THREADS;
        let (w, s) = (&self.widths, &self.scratch);
        Kernel::new("attention weights")
            .constant("WG", THREADS)
            .constant("H", w.n_head)
            .constant("LANES", w.lanes())
            .float("SCALE", config.attn_scale(layer) as f32)
            .read("q", "vec4<f32>", s.q.as_entire_buffer_binding())
            .write("result", "f32", result)
            .params(&s.params)
            .cache("vec4<f32>")
            .source(p.largest())
            .source(include_str!("wgsl/total.wgsl"))
            .source(include_str!("wgsl/attention_weights.wgsl"))
            .build(p, [Extent::Tokens(1), Extent::Fixed(w.n_head as u32)])
    }
}

/// The dispatches of all blocks, with those of an adapter's parts.
pub(super) fn layers(make: &DispatchMaker, adapter: &[Parts]) -> Result<Vec<LayerDispatches>> {
    let blocks = make.image.layout.blocks.iter().zip(adapter).enumerate();
    blocks.map(|(i, (block, parts))| layer(make, block, i, parts)).collect()
}

fn layer(make: &DispatchMaker, block: &Block, layer: usize, parts: &Parts) -> Result<LayerDispatches> {
    let Block { ln_1, c_attn, c_proj, ln_2, c_fc, mlp_c_proj } = block;
    let [to_attn, to_proj, to_fc, to_mlp_proj] = parts.each_ref().map(Option::as_ref);
    let (s, few, many) = (make.s, Few::Newest, Many::Tokens);
    let (norm_1, norm_2) = (Source::Norm(ln_1), Source::Norm(ln_2));
    let decode = [
        make.adapted_matvec("c_attn", c_attn, norm_1, Finish::Qkv, few, to_attn)?,
        vec![make.attention_of_single(layer, Texts::One, &s.pieces)?],
        make.adapted_matvec("c_proj", c_proj, Source::Attended(&s.pieces), Finish::Residual, few, to_proj)?,
        make.adapted_matvec("c_fc", c_fc, norm_2, Finish::Activated, few, to_fc)?,
        make.adapted_matvec("mlp.c_proj", mlp_c_proj, Source::Plain(&s.hidden), Finish::Residual, few, to_mlp_proj)?,
    ];
    let prefill = [
        vec![make.norm(ln_1, None)?],
        make.adapted_matmul("c_attn", c_attn, &s.normed, Finish::Qkv, many, to_attn)?,
        vec![make.attention_of_blocks(layer, Texts::One)?],
        make.adapted_matmul("c_proj", c_proj, &s.attended, Finish::Residual, many, to_proj)?,
        vec![make.norm(ln_2, None)?],
        make.adapted_matmul("c_fc", c_fc, &s.normed, Finish::Activated, many, to_fc)?,
        make.adapted_matmul("mlp.c_proj", mlp_c_proj, &s.hidden, Finish::Residual, many, to_mlp_proj)?,
    ];
    let flat = |steps: Vec<Vec<Dispatch>>| steps.into_iter().flatten().collect();
    Ok(LayerDispatches { decode: flat(decode.into()), prefill: flat(prefill.into()) })
}
