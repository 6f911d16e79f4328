//! From a checkpoint's tensors to the image, as they arrive. An embedding is packed four rows at a time, a Conv1D once
//! all of it is there; other tensors are stored as they are.

use alloc::collections::TryReserveError;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::cast_slice;

use crate::format::{Dtype, pack_row};
use crate::layout::{Block, Layout, Matrix, Norm};
use crate::limits::{BLOCK, GROUP};
use crate::simd::Chunk;

/// Takes tensors under their checkpoint names, row-major f32 in pieces of any length, and writes the image's bytes.
#[derive(Debug)]
pub struct Packer {
    layout: Layout,
    destination: Option<Destination>,
    /// Values that cannot be packed yet. It is allocated once, with room for the largest tensor: if it grew step by
    /// step, each step would leave a hole in WebAssembly's memory that no later step fits.
    held: Vec<f32>,
}

/// Where the values of the current tensor go.
#[derive(Debug)]
enum Destination {
    /// Values that are stored as they are, from this offset on.
    Plain { offset: usize },
    /// An embedding or a head, which arrives row by row. The rows of a group are held until all four are there.
    Rows { matrix: Matrix, group: usize },
    /// A Conv1D, which arrives as [K, R], that is column by column. All of it is held, since a row is whole at the end
    /// only.
    Columns { matrix: Matrix },
}

/// A function that stores bytes of the image: it is given an offset, a multiple of 4, and the bytes that belong there.
pub type Write<'a> = &'a mut dyn FnMut(usize, &[u8]);

impl Packer {
    /// A packer of a model's tensors. The image that it writes to begins as zeros.
    pub fn new(layout: Layout) -> Self {
        Self { layout, destination: None, held: Vec::new() }
    }

    /// The image's layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Begins a tensor. → whether the model has one of that name
    ///
    /// # Errors
    /// The tensor is a Conv1D and there is no memory to hold the model's largest one.
    pub fn begin(&mut self, name: &str) -> Result<bool, TryReserveError> {
        let Some(destination) = find(&self.layout, name) else { return Ok(false) };
        if matches!(destination, Destination::Columns { .. }) {
            self.held.try_reserve_exact(largest_conv1d(&self.layout))?;
        }
        self.destination = Some(destination);
        Ok(true)
    }

    /// Takes the tensor's next values.
    pub fn values(&mut self, values: &[f32], write: Write) {
        let held = &mut self.held;
        match &mut self.destination {
            None => {}
            Some(Destination::Plain { offset }) => {
                write(*offset, cast_slice(values));
                *offset += values.len() * 4;
            }
            Some(Destination::Columns { .. }) => held.extend_from_slice(values),
            Some(Destination::Rows { matrix, group }) => {
                let whole = GROUP * matrix.n_cols;
                let mut values = values;
                while held.len() + values.len() >= whole {
                    let (taken, rest) = values.split_at(whole - held.len());
                    held.extend_from_slice(taken);
                    values = rest;
                    pack_groups(matrix, *group, held, write);
                    *group += 1;
                    held.clear();
                }
                held.extend_from_slice(values);
            }
        }
    }

    /// Ends the tensor.
    pub fn end(&mut self, write: Write) {
        match self.destination.take() {
            None | Some(Destination::Plain { .. }) => {}
            Some(Destination::Rows { matrix, group }) => {
                if !self.held.is_empty() {
                    self.held.resize(GROUP * matrix.n_cols, 0.0); // rows behind the last one are zero
                    pack_groups(&matrix, group, &self.held, write);
                }
            }
            Some(Destination::Columns { matrix }) => pack_columns(&matrix, &self.held, write),
        }
        self.held.clear();
    }
}

/// Packs whole groups of rows, from group `first` on. rows: [4 n, K]
fn pack_groups(matrix: &Matrix, first: usize, rows: &[f32], write: Write) {
    let (dtype, k) = (matrix.dtype, matrix.n_cols);
    let n_groups = rows.len() / (GROUP * k);
    let (group_chunks, n_blocks) = (matrix.group_bytes() / 16, matrix.n_cols_padded() / BLOCK);
    // of q4 a 4-bit 0 means -8 and an 8 means 0: padding that no row writes must mean 0
    let mut quants = vec![[if dtype == Dtype::Q4 { 0x88 } else { 0_u8 }; 16]; n_groups * group_chunks];
    let mut block_scales = vec![[0_u16; GROUP]; if dtype == Dtype::Q4 { n_groups * n_blocks } else { 0 }];
    let mut row_scales = vec![0.0_f32; n_groups * GROUP];
    for (i, values) in rows.chunks_exact(k).enumerate() {
        let (group, row) = (i / GROUP, i % GROUP);
        let quants: &mut [Chunk] = &mut quants[group * group_chunks..][..group_chunks];
        let scales = if dtype == Dtype::Q4 { &mut block_scales[group * n_blocks..][..n_blocks] } else { &mut [][..] };
        row_scales[i] = pack_row(dtype, values, row, quants, scales);
    }
    write(matrix.quants.start + first * matrix.group_bytes(), cast_slice(&quants));
    if dtype == Dtype::Q4 {
        write(matrix.block_scales.start + first * n_blocks * 8, cast_slice(&block_scales));
    }
    if dtype != Dtype::Fp32 {
        write(matrix.row_scales.start + first * GROUP * 4, cast_slice(&row_scales));
    }
}

/// Packs a Conv1D. columns: [K, R]
fn pack_columns(matrix: &Matrix, columns: &[f32], write: Write) {
    /// So many groups are transposed together: they take 64 bytes, a cache line, of each row of the tensor.
    const N: usize = 4;
    let (k, r) = (matrix.n_cols, matrix.n_rows);
    let mut rows = vec![0.0; N * GROUP * k];
    for first in (0..r).step_by(N * GROUP) {
        let n = (r - first).min(N * GROUP);
        let padded = n.next_multiple_of(GROUP);
        rows[n * k..padded * k].fill(0.0);
        for (i, line) in columns.chunks_exact(r).enumerate() {
            for (j, &x) in line[first..first + n].iter().enumerate() {
                rows[j * k + i] = x;
            }
        }
        pack_groups(matrix, first / GROUP, &rows[..padded * k], write);
    }
}

/// Values of the largest tensor that is held whole.
fn largest_conv1d(layout: &Layout) -> usize {
    let conv1ds = layout.blocks.iter().flat_map(|b| [&b.c_attn, &b.c_proj, &b.c_fc, &b.mlp_c_proj]);
    conv1ds.map(|matrix| matrix.n_cols * matrix.n_rows).max().unwrap_or_default()
}

/// Where the tensor of that checkpoint name goes.
fn find(layout: &Layout, name: &str) -> Option<Destination> {
    let plain = |range: &Range<usize>| Destination::Plain { offset: range.start };
    let rows = |matrix: &Matrix| Destination::Rows { matrix: matrix.clone(), group: 0 };
    match name {
        "wpe.weight" => return Some(plain(&layout.wpe)),
        "wte.weight" => return Some(rows(&layout.wte)),
        "lm_head.weight" => return layout.lm_head.as_ref().map(rows),
        _ => {}
    }
    let (path, part) = name.rsplit_once('.')?;
    let norm = |norm: &Norm| match part {
        "weight" => Some(plain(&norm.weight)),
        "bias" => Some(plain(&norm.bias)),
        _ => None,
    };
    let conv1d = |matrix: &Matrix| match part {
        "weight" => Some(Destination::Columns { matrix: matrix.clone() }),
        "bias" => Some(plain(&matrix.bias)),
        _ => None,
    };
    if path == "ln_f" {
        return norm(&layout.ln_f);
    }
    let (index, path) = path.strip_prefix("h.")?.split_once('.')?;
    let block: &Block = layout.blocks.get(index.parse::<usize>().ok()?)?;
    match path {
        "ln_1" => norm(&block.ln_1),
        "attn.c_attn" => conv1d(&block.c_attn),
        "attn.c_proj" => conv1d(&block.c_proj),
        "ln_2" => norm(&block.ln_2),
        "mlp.c_fc" => conv1d(&block.c_fc),
        "mlp.c_proj" => conv1d(&block.mlp_c_proj),
        _ => None,
    }
}

/// A [`Write`] to an image in memory, for tests and for engines that hold the image so.
pub fn write_into(image: &mut [u8]) -> impl FnMut(usize, &[u8]) + '_ {
    move |offset, bytes| image[offset..offset + bytes.len()].copy_from_slice(bytes)
}
