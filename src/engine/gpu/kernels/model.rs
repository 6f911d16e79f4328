//! Every dispatch that a pass can make, with its pipeline and buffers: made once, at load.
//!
//! ```text
//! decode (T = 1)   embed | c_attn  attend  c_proj  c_fc  mlp.c_proj | head | top_k  choose     2 + 5 L, and 2 more
//! prefill          embed | ln_1  c_attn  attend  c_proj  ln_2  c_fc  mlp.c_proj | head
//! ```
//!
//! Decoding is bound by the bytes of the weights and by the number of dispatches, so there each norm, bias,
//! nonlinearity and residual sum is a part of a matrix product's kernel. In prefill the weights are read once for many
//! tokens.

use std::rc::Rc;

use gpt2_kernels::layout::{Block, Matrix, Norm};
use wgpu::Buffer;

use super::kernel::{Dispatch, Extent, Kernel};
use super::pipelines::Pipelines;
use super::tuning::{MatvecShape, Tuning};
use crate::checkpoint::{Activation, Config};
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::{MAX_K, MAX_SPLITS, MAX_THREADS, N_PIECES};
use crate::engine::gpu::memory::{Image, Scratch, Widths, norm_range};
use crate::error::Result;

/// The dispatches of one block.
pub(crate) struct LayerDispatches {
    pub decode: [Dispatch; 5],
    pub prefill: [Dispatch; 7],
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
        let layers = layout.blocks.iter().enumerate().map(|(i, block)| make.layer(block, i)).collect::<Result<_>>()?;
        let (embed, choose) = (make.embed()?, make.choose()?);
        let head = make.head(&layout.ln_f, layout.head())?;
        let head_rows = make.head_rows(&layout.ln_f, layout.head())?;
        Ok(Self { tuning, widths, embed, layers, head, head_rows, choose, scratch })
    }

    /// Dispatches that give the weights themselves: `q` and cache of layer `layer` → `result`, f32 [H, T, S].
    pub fn attention_weights(&self, config: &Config, layer: usize, result: &Buffer, p: &Pipelines) -> Result<Dispatch> {
        const THREADS: usize = 64;
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
            .source(p.reduce())
            .source(include_str!("wgsl/attention_weights.wgsl"))
            .build(p, [Extent::Tokens(1), Extent::Fixed(w.n_head as u32)])
    }
}

/// Where a matrix product's numbers go.
#[derive(Clone, Copy)]
enum Finish<'a> {
    /// Queries, and keys and values to the cache.
    Qkv,
    /// Through the MLP's nonlinearity to the hidden layer.
    Activated,
    /// Added to the residual stream.
    Residual,
    /// As they are.
    Plain(&'a Buffer, usize),
}

/// Where a decoding matrix product's input comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Norm(&'a Norm),
    Attended,
    Hidden,
}

/// Makes the dispatches of a model.
pub(crate) struct DispatchMaker<'a> {
    pub config: &'a Config,
    pub image: &'a Image,
    pub w: Widths,
    pub s: &'a Scratch,
    pub pipelines: &'a Pipelines,
    pub tuning: Tuning,
}

impl<'a> DispatchMaker<'a> {
    fn embed(&self) -> Result<Dispatch> {
        let wpe = self.image.binding(self.image.layout.wpe.clone());
        Kernel::new("embed")
            .matrix(self.image, &self.image.layout.wte)
            .read("wpe", "f32", wpe)
            .read("ids", "u32", self.s.ids.as_entire_buffer_binding())
            .write("result", "vec4<f32>", &self.s.x)
            .params(&self.s.params)
            .source(include_str!("wgsl/embed.wgsl"))
            .build(self.pipelines, [Extent::Fixed((self.w.c_padded / 4).div_ceil(64) as u32), Extent::Tokens(1)])
    }

    fn layer(&self, block: &Block, layer: usize) -> Result<LayerDispatches> {
        let Block { ln_1, c_attn, c_proj, ln_2, c_fc, mlp_c_proj } = block;
        let s = self.s;
        Ok(LayerDispatches {
            decode: [
                self.matvec("c_attn", c_attn, Source::Norm(ln_1), Finish::Qkv)?,
                self.attention_decode(layer)?,
                self.matvec("c_proj", c_proj, Source::Attended, Finish::Residual)?,
                self.matvec("c_fc", c_fc, Source::Norm(ln_2), Finish::Activated)?,
                self.matvec("mlp.c_proj", mlp_c_proj, Source::Hidden, Finish::Residual)?,
            ],
            prefill: [
                self.norm(ln_1)?,
                self.matmul("c_attn", c_attn, &s.normed, Finish::Qkv)?,
                self.attention_prefill(layer)?,
                self.matmul("c_proj", c_proj, &s.attended, Finish::Residual)?,
                self.norm(ln_2)?,
                self.matmul("c_fc", c_fc, &s.normed, Finish::Activated)?,
                self.matmul("mlp.c_proj", mlp_c_proj, &s.hidden, Finish::Residual)?,
            ],
        })
    }

    /// The dispatches of `mlp.c_fc` in up to `n_layer` layers, for passes of `n_new` tokens.
    pub fn c_fc(&self, n_layer: usize, n_new: usize) -> Result<Vec<Dispatch>> {
        let blocks = self.image.layout.blocks.iter().take(n_layer);
        let step = |block: &Block| match n_new {
            1 => self.matvec("c_fc", &block.c_fc, Source::Norm(&block.ln_2), Finish::Activated),
            _ => self.matmul("c_fc", &block.c_fc, &self.s.normed, Finish::Activated),
        };
        blocks.map(step).collect()
    }

    /// A layer's decoding attention, and `attn.c_proj`, which merges the attention's pieces.
    pub fn attention_pair(&self, layer: usize) -> Result<[Dispatch; 2]> {
        let c_proj = &self.image.layout.blocks[layer].c_proj;
        let merge = self.matvec("c_proj", c_proj, Source::Attended, Finish::Residual)?;
        Ok([self.attention_decode(layer)?, merge])
    }

    fn head(&self, ln_f: &Norm, head: &Matrix) -> Result<Dispatch> {
        self.matvec("head", head, Source::Norm(ln_f), Finish::Plain(&self.s.logits, self.w.vocab_padded))
    }

    fn head_rows(&self, ln_f: &Norm, head: &Matrix) -> Result<[Dispatch; 2]> {
        let finish = Finish::Plain(&self.s.logits, self.w.vocab_padded);
        Ok([self.norm(ln_f)?, self.matmul("head", head, &self.s.normed, finish)?])
    }

    /// y = W x for one token.
    fn matvec(&self, label: &str, matrix: &Matrix, source: Source, finish: Finish) -> Result<Dispatch> {
        let shape = MatvecShape::new(matrix, &self.tuning);
        let k4 = matrix.n_cols_padded() / 4;
        let kernel = Kernel::new(label)
            .matrix(self.image, matrix)
            .constant("WG", shape.n_threads)
            .constant("TEAM", shape.team)
            .constant("N_WORKGROUPS", shape.n_workgroups)
            .constant("TILE4", k4.min(512)); // 8 KiB: half of the workgroup memory that every device has
        let (s, w) = (self.s, &self.w);
        let input = match source {
            Source::Norm(_) => &s.x,
            Source::Attended => &s.pieces,
            Source::Hidden => &s.hidden,
        };
        let kernel = kernel.read("input", "vec4<f32>", input.as_entire_buffer_binding());
        let kernel = match source {
            Source::Norm(norm) => self.with_norm(kernel, norm),
            Source::Hidden => kernel.source(include_str!("wgsl/source_plain.wgsl")),
            Source::Attended => kernel
                .constant("H", w.n_head)
                .constant("D", w.head_dim)
                .constant("LANES", w.lanes())
                .constant("MAX_SPLITS", MAX_SPLITS)
                .source(include_str!("wgsl/source_attended.wgsl")),
        };
        self.finish(kernel, finish)
            .params(&s.params)
            .source(self.pipelines.reduce())
            .source(include_str!("wgsl/matvec.wgsl"))
            .build(self.pipelines, [Extent::Fixed(shape.n_workgroups as u32), Extent::Fixed(1)])
    }

    /// Y = X Wᵀ for all new tokens.
    fn matmul(&self, label: &str, matrix: &Matrix, input: &Buffer, finish: Finish) -> Result<Dispatch> {
        let [tokens, rows] = self.tuning.tile;
        let kernel = Kernel::new(label)
            .matrix(self.image, matrix)
            .constant("WG", tokens * rows / 16)
            .constant("TOKENS4", tokens / 4)
            .constant("GROUPS", rows / 4)
            .read("input", "vec4<f32>", input.as_entire_buffer_binding());
        let kernel = match self.tuning.tile_f16 {
            true => kernel.enable("f16").source(include_str!("wgsl/tile_f16.wgsl")),
            false => kernel.source(include_str!("wgsl/tile_f32.wgsl")),
        };
        self.finish(kernel, finish)
            .params(&self.s.params)
            .source(include_str!("wgsl/matmul.wgsl"))
            .build(self.pipelines, [Extent::Fixed(matrix.n_rows.div_ceil(rows) as u32), Extent::Tokens(tokens as u32)])
    }

    fn with_norm<'k>(&'k self, kernel: Kernel<'k>, norm: &Norm) -> Kernel<'k> {
        kernel
            .constant("BETA4", (norm.bias.start - norm.weight.start) / 16)
            .float("EPSILON", self.config.layer_norm_epsilon as f32)
            .read("norm", "vec4<f32>", self.image.binding(norm_range(norm)))
            .source(include_str!("wgsl/source_norm.wgsl"))
    }

    fn norm(&self, norm: &Norm) -> Result<Dispatch> {
        let kernel = Kernel::new("norm")
            .constant("WG", 128)
            .constant("K", self.w.c)
            .constant("K4", self.w.c_padded / 4)
            .read("input", "vec4<f32>", self.s.x.as_entire_buffer_binding())
            .write("result", "vec4<f32>", &self.s.normed)
            .params(&self.s.params)
            .source(self.pipelines.reduce())
            .source(include_str!("wgsl/norm.wgsl"));
        self.with_norm(kernel, norm).build(self.pipelines, [Extent::Tokens(1), Extent::Fixed(1)])
    }

    fn finish<'k>(&'k self, kernel: Kernel<'k>, finish: Finish<'k>) -> Kernel<'k> {
        let (w, s) = (&self.w, self.s);
        let to = |kernel: Kernel<'k>, buffer, stride| {
            kernel.constant("RESULT_STRIDE", stride).write("result", "f32", buffer)
        };
        match finish {
            Finish::Qkv => kernel
                .constant("C", w.c)
                .constant("H", w.n_head)
                .constant("D", w.head_dim)
                .constant("D_PADDED", w.head_padded)
                .write("result", "f32", &s.q)
                .cache("f32")
                .source(include_str!("wgsl/finish_qkv.wgsl")),
            Finish::Activated => to(kernel, &s.hidden, w.inner_padded)
                .source(include_str!("wgsl/finish_activated.wgsl"))
                .source(activation_source(self.config.activation_function)),
            Finish::Residual => to(kernel, &s.x, w.c_padded).source(include_str!("wgsl/finish_residual.wgsl")),
            Finish::Plain(buffer, stride) => to(kernel, buffer, stride).source(include_str!("wgsl/finish_plain.wgsl")),
        }
    }

    fn attention(&self, label: &'a str, layer: usize) -> Kernel<'_> {
        let w = &self.w;
        Kernel::new(label)
            .constant("WG", w.attention_threads())
            .constant("H", w.n_head)
            .constant("D", w.head_dim)
            .constant("LANES", w.lanes())
            .float("SCALE", self.config.attn_scale(layer) as f32)
            .read("q", "vec4<f32>", self.s.q.as_entire_buffer_binding())
            .params(&self.s.params)
            .cache("vec4<f32>")
    }

    fn attention_decode(&self, layer: usize) -> Result<Dispatch> {
        self.attention("attend", layer)
            .constant("MAX_SPLITS", MAX_SPLITS)
            .write("result", "vec4<f32>", &self.s.pieces)
            .source(self.pipelines.reduce())
            .source(include_str!("wgsl/attention_decode.wgsl"))
            .build(self.pipelines, [Extent::Fixed(self.w.n_head as u32), Extent::Splits])
    }

    fn attention_prefill(&self, layer: usize) -> Result<Dispatch> {
        let w = &self.w;
        // The queries take half of the workgroup memory. Each of their lanes has a thread of its own where there are
        // enough.
        let n_queries = previous_power_of_two(8192 / (16 * w.lanes())).min(16);
        let n_subs = previous_power_of_two(w.attention_threads() / w.lanes()).min(n_queries);
        self.attention("attend to a prompt", layer)
            .constant("TQ", n_queries)
            .constant("TK", 32)
            .constant("SUBS", n_subs)
            .constant("RESULT_STRIDE", w.c_padded)
            .write("result", "f32", &self.s.attended)
            .source(include_str!("wgsl/attention_prefill.wgsl"))
            .build(self.pipelines, [Extent::Tokens(n_queries as u32), Extent::Fixed(w.n_head as u32)])
    }

    fn choose(&self) -> Result<[Dispatch; 2]> {
        let s = self.s;
        let kernel = |label: &'a str| {
            Kernel::new(label)
                .constant("WG", MAX_THREADS)
                .constant("V", self.w.vocab)
                .constant("MAX_K", MAX_K)
                .constant("N_PIECES", N_PIECES)
                .params(&s.params)
                .source(include_str!("wgsl/rank.wgsl"))
                .source(self.pipelines.rank())
        };
        let top_k = kernel("top_k")
            .read("logits", "f32", s.logits.as_entire_buffer_binding())
            .write("tops", "vec2<u32>", &s.tops)
            .source(include_str!("wgsl/top_k.wgsl"))
            .build(self.pipelines, [Extent::Fixed(N_PIECES as u32), Extent::Fixed(1)])?;
        let choose = kernel("choose")
            .read("tops", "vec2<u32>", s.tops.as_entire_buffer_binding())
            .write("choice", "u32", &s.choice)
            .write("ids", "u32", &s.ids)
            .source(include_str!("wgsl/choose.wgsl"))
            .build(self.pipelines, [Extent::Fixed(1), Extent::Fixed(1)])?;
        Ok([top_k, choose])
    }
}

fn previous_power_of_two(n: usize) -> usize {
    1 << n.max(1).ilog2()
}

fn activation_source(activation: Activation) -> &'static str {
    match activation {
        Activation::GeluNew => include_str!("wgsl/activation_gelu_new.wgsl"),
        Activation::Gelu => include_str!("wgsl/activation_gelu.wgsl"),
        Activation::Relu => include_str!("wgsl/activation_relu.wgsl"),
        Activation::Silu => include_str!("wgsl/activation_silu.wgsl"),
        Activation::Tanh => include_str!("wgsl/activation_tanh.wgsl"),
    }
}
