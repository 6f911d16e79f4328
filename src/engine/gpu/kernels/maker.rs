//! Makes dispatches: which kernel, with which buffers, spread how.

use gpt2_kernels::layout::{Block, Matrix, Norm};
use wgpu::Buffer;

use super::kernel::{Added, Dispatch, Extent, Kernel};
use super::pipelines::Pipelines;
use super::tuning::{MatvecShape, Tuning};
use crate::checkpoint::{Activation, Config};
use crate::engine::gpu::limits::{CACHES_AT_ONCE, MAX_K, MAX_PIECES, MAX_THREADS, N_PIECES, SUM_THREADS, TILE_KEYS};
use crate::engine::gpu::memory::{Image, Scratch, Widths, norm_range, previous_power_of_two};
use crate::error::Result;

/// Where a matrix product's numbers go.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// Queries, and keys and values to the cache.
    Qkv,
    /// All three, [T][3][H][D'], of a batch.
    BatchQkv(&'a Buffer),
    /// Through the MLP's nonlinearity to the hidden layer.
    Activated,
    /// Added to the residual stream.
    Residual,
    /// As they are.
    Plain(&'a Buffer, usize),
}

/// Where the input of a product for few tokens, or of an adapter's, comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Norm(&'a Norm),
    /// The pieces of an attention.
    Attended(&'a Buffer),
    /// As it lies there.
    Plain(&'a Buffer),
}

/// Which tokens a product for few is for.
#[derive(Clone, Copy)]
pub(super) enum Few<'a> {
    /// The newest one of one text.
    Newest,
    /// All of a batch, at most so many, as this buffer tells them.
    Batch(usize, &'a Buffer),
    /// Those of a batch whose logits are wanted, at most so many.
    Rows(usize),
}

/// Which tokens a product for many is for.
#[derive(Clone, Copy)]
pub(super) enum Many {
    /// All of the pass.
    Tokens,
    /// Those of a batch whose logits are wanted.
    Rows,
}

/// Whose queries, keys and values an attention takes.
#[derive(Clone, Copy)]
pub(super) enum Texts<'a> {
    One,
    /// Those of a batch, from this text on as many as one dispatch binds the caches of.
    Batch {
        tokens: &'a Buffer,
        qkv: &'a Buffer,
        first: usize,
    },
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
    /// The beginning of the residual stream, of the tokens of one text or of those that `batch` tells.
    pub(super) fn embed(&self, batch: Option<&Buffer>) -> Result<Dispatch> {
        let wpe = self.image.binding(self.image.layout.wpe.clone());
        let kernel = Kernel::new("embed").matrix(self.image, &self.image.layout.wte).read("wpe", "f32", wpe);
        let kernel = match batch {
            None => kernel
                .read("ids", "u32", self.s.ids.as_entire_buffer_binding())
                .source(include_str!("wgsl/ids_of_text.wgsl"))
                .source(include_str!("wgsl/tokens_of_text.wgsl")),
            Some(batch) => kernel
                .read("batch", "vec4<u32>", batch.as_entire_buffer_binding())
                .source(include_str!("wgsl/ids_of_batch.wgsl"))
                .source(include_str!("wgsl/tokens_of_batch.wgsl")),
        };
        kernel
            .write("result", "vec4<f32>", &self.s.x)
            .params(&self.s.params)
            .source(include_str!("wgsl/embed.wgsl"))
            .build(self.pipelines, [Extent::Fixed((self.w.c_padded / 4).div_ceil(64) as u32), Extent::Tokens(1)])
    }

    /// The dispatches of `mlp.c_fc` in up to `n_layer` layers, for passes of `n_new` tokens.
    pub fn c_fc(&self, n_layer: usize, n_new: usize) -> Result<Vec<Dispatch>> {
        let blocks = self.image.layout.blocks.iter().take(n_layer);
        let step = |block: &Block| match n_new {
            1 => self.matvec(
                "c_fc",
                &block.c_fc,
                Source::Norm(&block.ln_2),
                Finish::Activated,
                Few::Newest,
                Added::Nothing,
            ),
            _ => self.matmul("c_fc", &block.c_fc, &self.s.normed, Finish::Activated, Many::Tokens, Added::Nothing),
        };
        blocks.map(step).collect()
    }

    /// y = W x for few tokens.
    pub(super) fn matvec(
        &self,
        label: &str,
        matrix: &Matrix,
        source: Source,
        finish: Finish,
        few: Few,
        added: Added,
    ) -> Result<Dispatch> {
        let n_tokens = if let Few::Batch(n, _) | Few::Rows(n) = few { n } else { 1 };
        let shape = MatvecShape::new(matrix, &self.tuning, n_tokens);
        let kernel = Kernel::new(label)
            .matrix(self.image, matrix)
            .constant("WG", shape.n_threads)
            .constant("TEAM", shape.team)
            .constant("TOKENS", n_tokens)
            .constant("PARTS", shape.n_parts)
            .constant("N_WORKGROUPS", shape.n_workgroups)
            .constant("TILE4", shape.tile4);
        let kernel = match few {
            Few::Newest => kernel.source(include_str!("wgsl/token_newest.wgsl")),
            Few::Batch(_, batch) => kernel
                .read("batch", "vec4<u32>", batch.as_entire_buffer_binding())
                .source(include_str!("wgsl/tokens_of_batch.wgsl")),
            Few::Rows(_) => kernel.source(include_str!("wgsl/rows_few.wgsl")),
        };
        let kernel = match source {
            Source::Norm(_) => kernel.source(include_str!("wgsl/norm_same_row.wgsl")),
            _ => kernel,
        };
        self.finish(self.source(kernel, source).adapter(added), finish)
            .params(&self.s.params)
            .source(include_str!("wgsl/sums.wgsl"))
            .source(include_str!("wgsl/matvec.wgsl"))
            .build(self.pipelines, [Extent::Fixed(shape.n_workgroups as u32), Extent::Fixed(1)])
    }

    /// Y = X Wᵀ for many tokens.
    pub(super) fn matmul(
        &self,
        label: &str,
        matrix: &Matrix,
        input: &Buffer,
        finish: Finish,
        many: Many,
        added: Added,
    ) -> Result<Dispatch> {
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
        let (kernel, extent) = match many {
            Many::Tokens => (kernel.source(include_str!("wgsl/tokens_of_text.wgsl")), Extent::Tokens(tokens as u32)),
            Many::Rows => (kernel.source(include_str!("wgsl/rows_many.wgsl")), Extent::Rows(tokens as u32)),
        };
        self.finish(kernel.adapter(added), finish)
            .params(&self.s.params)
            .source(include_str!("wgsl/sums.wgsl"))
            .source(include_str!("wgsl/matmul.wgsl"))
            .build(self.pipelines, [Extent::Fixed(matrix.n_rows.div_ceil(rows) as u32), extent])
    }

    /// Reads the input of a product, `prepare(i)` and `load(t, k4)`.
    pub(super) fn source<'k>(&'k self, kernel: Kernel<'k>, source: Source<'k>) -> Kernel<'k> {
        let w = &self.w;
        let input = match source {
            Source::Norm(_) => &self.s.x,
            Source::Attended(buffer) | Source::Plain(buffer) => buffer,
        };
        let kernel = kernel.read("input", "vec4<f32>", input.as_entire_buffer_binding());
        match source {
            Source::Norm(norm) => self.with_norm(kernel, norm),
            Source::Plain(_) => kernel.source(include_str!("wgsl/source_plain.wgsl")),
            Source::Attended(_) => self
                .attention_order(kernel)
                .constant("H", w.n_head)
                .constant("D", w.head_dim)
                .constant("LANES", w.lanes())
                .constant("MAX_PIECES", MAX_PIECES)
                .source(include_str!("wgsl/source_attended.wgsl")),
        }
    }

    fn with_norm<'k>(&'k self, kernel: Kernel<'k>, norm: &Norm) -> Kernel<'k> {
        kernel
            .constant("BETA4", (norm.bias.start - norm.weight.start) / 16)
            .float("INVERSE_K", 1.0 / self.w.c as f32)
            .float("EPSILON", self.config.layer_norm_epsilon as f32)
            .read("norm", "vec4<f32>", self.image.binding(norm_range(norm)))
            .source(include_str!("wgsl/total.wgsl"))
            .source(include_str!("wgsl/source_norm.wgsl"))
    }

    /// LayerNorm of all tokens, or of those of a batch, as `batch` tells them, whose logits are wanted.
    pub(super) fn norm(&self, norm: &Norm, batch: Option<&Buffer>) -> Result<Dispatch> {
        let kernel = Kernel::new("norm")
            .constant("WG", SUM_THREADS)
            .constant("K", self.w.c)
            .constant("K4", self.w.c_padded / 4)
            .read("input", "vec4<f32>", self.s.x.as_entire_buffer_binding())
            .write("result", "vec4<f32>", &self.s.normed)
            .params(&self.s.params);
        let (kernel, extent) = match batch {
            None => (kernel.source(include_str!("wgsl/tokens_of_text.wgsl")), Extent::Tokens(1)),
            Some(batch) => {
                let kernel = kernel.read("batch", "vec4<u32>", batch.as_entire_buffer_binding());
                (kernel.source(include_str!("wgsl/norm_rows.wgsl")), Extent::Rows(1))
            }
        };
        let kernel = kernel.source(include_str!("wgsl/sums.wgsl")).source(include_str!("wgsl/norm.wgsl"));
        self.with_norm(kernel, norm).build(self.pipelines, [extent, Extent::Fixed(1)])
    }

    fn finish<'k>(&'k self, kernel: Kernel<'k>, finish: Finish<'k>) -> Kernel<'k> {
        let (w, s) = (&self.w, self.s);
        let to = |kernel: Kernel<'k>, buffer, stride| {
            kernel.constant("RESULT_STRIDE", stride).write("result", "f32", buffer)
        };
        let heads = |kernel: Kernel<'k>| {
            let kernel = kernel.constant("C", w.c).constant("H", w.n_head);
            kernel.constant("D", w.head_dim).constant("D_PADDED", w.head_padded)
        };
        match finish {
            Finish::Qkv => {
                heads(kernel).write("result", "f32", &s.q).cache("f32").source(include_str!("wgsl/finish_qkv.wgsl"))
            }
            Finish::BatchQkv(qkv) => {
                heads(kernel).write("result", "f32", qkv).source(include_str!("wgsl/finish_qkv_batch.wgsl"))
            }
            Finish::Activated => to(kernel, &s.hidden, w.inner_padded)
                .source(include_str!("wgsl/finish_activated.wgsl"))
                .source(activation_source(self.config.activation_function)),
            Finish::Residual => to(kernel, &s.x, w.c_padded).source(include_str!("wgsl/finish_residual.wgsl")),
            Finish::Plain(buffer, stride) => to(kernel, buffer, stride).source(include_str!("wgsl/finish_plain.wgsl")),
        }
    }

    fn attention(&self, label: &'a str, layer: usize, texts: Texts<'a>) -> Kernel<'_> {
        let w = &self.w;
        let kernel = self
            .attention_order(Kernel::new(label))
            .constant("WG", w.attention_threads())
            .constant("H", w.n_head)
            .constant("D", w.head_dim)
            .constant("LANES", w.lanes())
            .float("SCALE", self.config.attn_scale(layer) as f32)
            .params(&self.s.params)
            .source(include_str!("wgsl/sums.wgsl"));
        match texts {
            Texts::One => kernel
                .read("q", "vec4<f32>", self.s.q.as_entire_buffer_binding())
                .cache("vec4<f32>")
                .source(include_str!("wgsl/keys_of_text.wgsl")),
            Texts::Batch { tokens, qkv, first } => kernel
                .constant("FIRST_TEXT", first)
                .constant("CACHES_AT_ONCE", CACHES_AT_ONCE)
                .read("batch", "vec4<u32>", tokens.as_entire_buffer_binding())
                .read("qkv", "vec4<f32>", qkv.as_entire_buffer_binding())
                .caches()
                .source(include_str!("wgsl/keys_of_batch.wgsl")),
        }
    }

    /// What fixes the order of an attention's sums.
    fn attention_order<'k>(&self, kernel: Kernel<'k>) -> Kernel<'k> {
        kernel.constant("PIECE_TILES", self.w.piece_tiles()).source(include_str!("wgsl/attention_order.wgsl"))
    }

    /// The attention of each token by itself, to pieces.
    pub(super) fn attention_of_single(&self, layer: usize, texts: Texts<'a>, pieces: &'a Buffer) -> Result<Dispatch> {
        let piece_keys = self.w.piece_tiles() * TILE_KEYS;
        self.attention("attend", layer, texts)
            .constant("BLOCK_TOKENS", 1)
            .constant("MAX_PIECES", MAX_PIECES)
            .write("result", "vec4<f32>", pieces)
            .source(self.pipelines.largest())
            .source(include_str!("wgsl/total.wgsl"))
            .source(include_str!("wgsl/attention_decode.wgsl"))
            .build(self.pipelines, [Extent::PerToken(self.w.n_head as u32), Extent::Pieces(piece_keys as u32)])
    }

    /// The attention of blocks of tokens.
    pub(super) fn attention_of_blocks(&self, layer: usize, texts: Texts<'a>) -> Result<Dispatch> {
        let w = &self.w;
        let block_tokens = w.block_tokens();
        // Each of their lanes has a thread of its own where there are enough.
        let n_subs = previous_power_of_two(w.attention_threads() / w.lanes()).min(block_tokens);
        let extent = match texts {
            Texts::One => Extent::Tokens(block_tokens as u32),
            Texts::Batch { .. } => Extent::Blocks,
        };
        self.attention("attend to a prompt", layer, texts)
            .constant("BLOCK_TOKENS", block_tokens)
            .constant("SUBS", n_subs)
            .constant("RESULT_STRIDE", w.c_padded)
            .write("result", "f32", &self.s.attended)
            .source(include_str!("wgsl/attention_prefill.wgsl"))
            .build(self.pipelines, [extent, Extent::Fixed(w.n_head as u32)])
    }

    pub(super) fn choose(&self) -> Result<[Dispatch; 2]> {
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
                .read("logits", "f32", s.logits.as_entire_buffer_binding())
                .source(include_str!("wgsl/mass.wgsl"))
        };
        let top_k = kernel("top_k")
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

fn activation_source(activation: Activation) -> &'static str {
    match activation {
        Activation::GeluNew => include_str!("wgsl/activation_gelu_new.wgsl"),
        Activation::Gelu => include_str!("wgsl/activation_gelu.wgsl"),
        Activation::Relu => include_str!("wgsl/activation_relu.wgsl"),
        Activation::Silu => include_str!("wgsl/activation_silu.wgsl"),
        Activation::Tanh => include_str!("wgsl/activation_tanh.wgsl"),
        Activation::QuickGelu => include_str!("wgsl/activation_quick_gelu.wgsl"),
    }
}
