//! From a kernel's WGSL to something that can be recorded: constants and bindings are declared here, beside the buffers
//! that they stand for, and put before the text of the files.
//!
//! Sizes are constants of the shader, so that the compiler can unroll; layers of the same shape give the same text, and
//! the same text gives the same pipeline.

use std::fmt::Write;
use std::rc::Rc;

use gpt2_kernels::Dtype;
use gpt2_kernels::layout::{GROUP, Matrix};
use wgpu::{BindGroup, BindGroupEntry, BindingResource, Buffer, BufferBinding, ComputePass};

use super::access::Access;
use super::params::Params;
use super::pipelines::{Pipelines, Program};
use super::tuning::Segments;
use crate::engine::gpu::limits::CACHES_AT_ONCE;
use crate::engine::gpu::memory::{Image, LowRank, rest_range};
use crate::error::{Error, Result};

/// How many workgroups one axis of a dispatch has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// Always so many.
    Fixed(u32),
    /// One for so many new tokens.
    Tokens(u32),
    /// So many for each new token.
    PerToken(u32),
    /// One for each piece of so many keys.
    Pieces(u32),
    /// One for each block of a batch's tokens.
    Blocks,
    /// One for so many of the rows that logits are wanted of.
    Rows(u32),
}

/// What a pass's dispatches depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassSize {
    pub n_new: u32,
    /// The most that a token sees.
    pub n_keys: u32,
    pub n_blocks: u32,
    pub n_rows: u32,
}

impl PassSize {
    pub fn of(params: &Params) -> Self {
        let (n_new, n_rows) = (params.n_new as u32, params.n_rows as u32);
        Self { n_new, n_keys: (params.n_past + params.n_new) as u32, n_blocks: 0, n_rows }
    }
}

impl Extent {
    fn count(self, size: PassSize) -> u32 {
        match self {
            Self::Fixed(n) => n,
            Self::Tokens(per_workgroup) => size.n_new.div_ceil(per_workgroup),
            Self::PerToken(n) => size.n_new * n,
            Self::Pieces(n_keys) => size.n_keys.div_ceil(n_keys),
            Self::Blocks => size.n_blocks,
            Self::Rows(per_workgroup) => size.n_rows.div_ceil(per_workgroup),
        }
    }
}

/// A dispatch with all that it needs but the cache.
pub(crate) struct Dispatch {
    program: Rc<Program>,
    bind_group: BindGroup,
    /// How many caches it binds.
    n_caches: usize,
    grid: [Extent; 2],
}

impl Dispatch {
    /// The kernel's name, for profiles and error messages.
    pub fn label(&self) -> &str {
        self.program.label()
    }

    /// Records the dispatch. This creates no objects once the pipeline is compiled. `cache`: the bind group of this
    /// layer's keys and values, of one text or of several.
    pub fn record(&self, pass: &mut ComputePass, cache: Option<&BindGroup>, size: PassSize) {
        pass.set_pipeline(self.program.pipeline());
        pass.set_bind_group(0, &self.bind_group, &[]);
        if self.n_caches > 0 {
            pass.set_bind_group(1, cache, &[]);
        }
        pass.dispatch_workgroups(self.grid[0].count(size), self.grid[1].count(size), 1);
    }
}

/// What a LoRA adapter adds to a product.
#[derive(Clone, Copy)]
pub(super) enum Added<'a> {
    Nothing,
    /// With A x from a dispatch before it.
    Told(&'a LowRank),
    /// With A x that each workgroup computes for itself from the norm of one token.
    Own(&'a LowRank),
}

/// A kernel being put together.
pub(crate) struct Kernel<'a> {
    label: &'a str,
    /// Directives, which come before all else.
    enabled: String,
    constants: String,
    declarations: String,
    body: String,
    bindings: Vec<(Access, BindingResource<'a>)>,
    n_caches: usize,
}

impl<'a> Kernel<'a> {
    pub fn new(label: &'a str) -> Self {
        Self {
            label,
            enabled: String::new(),
            constants: String::new(),
            declarations: String::new(),
            body: String::new(),
            bindings: Vec::new(),
            n_caches: 0,
        }
    }

    /// Enables an extension of WGSL. The caller makes sure that the device has it.
    pub fn enable(mut self, extension: &str) -> Self {
        _ = writeln!(self.enabled, "enable {extension};");
        self
    }

    /// `const NAME: u32`
    pub fn constant(mut self, name: &str, value: usize) -> Self {
        _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
        self
    }

    /// `const NAME: f32`
    pub fn float(mut self, name: &str, value: f32) -> Self {
        _ = writeln!(self.constants, "const {name}: f32 = {value:e}f;");
        self
    }

    /// The text of a file.
    pub fn source(mut self, wgsl: &str) -> Self {
        self.body.push_str(wgsl);
        self
    }

    /// A storage buffer that is read, as `array<element>`.
    pub fn read(self, name: &str, element: &str, binding: BufferBinding<'a>) -> Self {
        let declared = format!("var<storage, read> {name}: array<{element}>");
        self.bind(Access::Read, &declared, binding)
    }

    /// A storage buffer that is written, or read and written.
    pub fn write(self, name: &str, element: &str, buffer: &'a Buffer) -> Self {
        let declared = format!("var<storage, read_write> {name}: array<{element}>");
        self.bind(Access::Write, &declared, buffer.as_entire_buffer_binding())
    }

    /// The uniform `params`.
    pub fn params(self, buffer: &'a Buffer) -> Self {
        self.bind(Access::Uniform, "var<uniform> params: Params", buffer.as_entire_buffer_binding())
            .source(include_str!("wgsl/params.wgsl"))
    }

    /// The keys and values of one layer, `cache`.
    pub fn cache(mut self, element: &str) -> Self {
        _ = writeln!(self.declarations, "@group(1) @binding(0) var<storage, read_write> cache: array<{element}>;");
        self.n_caches = 1;
        self
    }

    /// The keys and values of one layer of [`CACHES_AT_ONCE`] texts, `cache_0` and so on.
    pub fn caches(mut self) -> Self {
        for i in 0..CACHES_AT_ONCE {
            let declared = format!("var<storage, read_write> cache_{i}: array<vec4<f32>>");
            _ = writeln!(self.declarations, "@group(1) @binding({i}) {declared};");
        }
        self.n_caches = CACHES_AT_ONCE;
        self
    }

    fn bind(mut self, access: Access, declared: &str, binding: BufferBinding<'a>) -> Self {
        _ = writeln!(self.declarations, "@group(0) @binding({}) {declared};", self.bindings.len());
        self.bindings.push((access, BindingResource::Buffer(binding)));
        self
    }

    /// A matrix of the image: R, K, K4, STEPS, N_GROUPS, the segments of its sums, `quants(chunk)`, `quad`, the scales
    /// and `bias(r)`.
    pub fn matrix(mut self, image: &'a Image, matrix: &Matrix) -> Self {
        let steps = matrix.n_cols_padded() / matrix.dtype.chunk_values();
        let segments = Segments::of(matrix);
        self = self
            .constant("R", matrix.n_rows)
            .constant("K", matrix.n_cols)
            .constant("K4", matrix.n_cols_padded() / 4)
            .constant("STEPS", steps)
            .constant("N_GROUPS", matrix.n_rows_padded() / GROUP)
            .constant("SEGMENT4", segments.n_cols / 4)
            .constant("N_SEGMENTS", segments.n);
        // finds the binding that holds chunk `i`; `before` is the number of chunks in the bindings before it
        let mut lookup = String::from("fn quants(i: u32) -> vec4<u32> {\n");
        let parts = image.plan.parts(matrix);
        for (p, part) in parts.iter().enumerate() {
            let before = (part.start - matrix.quants.start) / 16;
            let end = (part.end - matrix.quants.start) / 16;
            if p + 1 < parts.len() {
                _ = write!(lookup, "    if (i < {end}u) ");
            }
            _ = writeln!(lookup, "{{ return quants_{p}[i - {before}u]; }}");
            self = self.read(&format!("quants_{p}"), "vec4<u32>", image.binding(part.clone()));
        }
        lookup.push_str("}\n");
        let rest = rest_range(matrix);
        let word = |at: usize| (at - rest.start) / 4;
        self = self.constant("ROW_SCALES", word(matrix.row_scales.start.max(rest.start)));
        lookup.push_str("fn bias(r: u32) -> f32 {\n");
        match matrix.bias.is_empty() {
            true => lookup.push_str("    return 0.0;\n}\n"),
            false => _ = writeln!(lookup, "    return bitcast<f32>(rest[{}u + r]);\n}}", word(matrix.bias.start)),
        }
        if !rest.is_empty() {
            self = self.read("rest", "u32", image.binding(rest));
        }
        self.source(&lookup).source(match matrix.dtype {
            Dtype::Fp32 => include_str!("wgsl/format_fp32.wgsl"),
            Dtype::Fp16 => include_str!("wgsl/format_fp16.wgsl"),
            Dtype::Q8 => include_str!("wgsl/format_q8.wgsl"),
            Dtype::Q4 => include_str!("wgsl/format_q4.wgsl"),
        })
    }

    /// What is added to a product: `prepare_adapter(i)`, `with_adapter(t, r, y)`. Needs `sums.wgsl`.
    pub(super) fn adapter(self, added: Added<'a>) -> Self {
        let (adapter, lowered) = match added {
            Added::Nothing => return self.source(include_str!("wgsl/adapter_none.wgsl")),
            Added::Told(adapter) => (adapter, vec![include_str!("wgsl/adapter_told.wgsl")]),
            Added::Own(adapter) => {
                let own = [
                    include_str!("wgsl/adapter_of_norm.wgsl"),
                    include_str!("wgsl/adapter_sums.wgsl"),
                    include_str!("wgsl/adapter_own.wgsl"),
                ];
                (adapter, own.to_vec())
            }
        };
        let kernel = self.low_rank(adapter).read("low_rank", "vec4<f32>", adapter.buffer.as_entire_buffer_binding());
        lowered.into_iter().fold(kernel, Self::source).source(include_str!("wgsl/adapter_added.wgsl"))
    }

    /// Where the numbers of an adapter's part lie.
    pub fn low_rank(self, adapter: &LowRank) -> Self {
        let LowRank { rank4, up_at, lowered_at, .. } = *adapter;
        self.constant("RANK4", rank4).constant("UP_AT", up_at).constant("LOWERED_AT", lowered_at)
    }

    /// Makes the bind group, and a program to be compiled unless there is one of the same text.
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] if the device binds fewer storage buffers at once. Errors of the
    /// device itself are caught by an error scope.
    pub fn build(self, pipelines: &Pipelines, grid: [Extent; 2]) -> Result<Dispatch> {
        let Self { label, enabled, constants, declarations, body, bindings, n_caches } = self;
        let context = &*pipelines.context;
        let n_storage = bindings.iter().filter(|b| b.0 != Access::Uniform).count() + n_caches;
        let max_storage = context.device.limits().max_storage_buffers_per_shader_stage;
        if n_storage > max_storage as usize {
            let message =
                format!("`{label}` reads {n_storage} buffers and this GPU binds at most {max_storage} at once");
            return Err(Error::WebGpuNotAvailable(message));
        }
        let text = enabled + &constants + &declarations + &body;
        let layout_entries = || bindings.iter().zip(0..).map(|((access, _), i)| access.layout_entry(i)).collect();
        let program = pipelines.program(label, text, layout_entries, n_caches);
        let entries: Vec<BindGroupEntry> = bindings
            .iter()
            .zip(0..)
            .map(|((_, resource), binding)| BindGroupEntry { binding, resource: resource.clone() })
            .collect();
        context.count(|c| c.n_objects += 1);
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(label), layout: &program.bind_group_layout, entries: &entries };
        let bind_group = context.device.create_bind_group(&descriptor);
        Ok(Dispatch { program, bind_group, n_caches, grid })
    }
}
