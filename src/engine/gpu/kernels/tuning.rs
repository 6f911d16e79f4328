//! How work is spread over threads: the sizes that differ from GPU to GPU and are therefore measured.

use gpt2_kernels::Dtype;
use gpt2_kernels::layout::{BLOCK, GROUP, Matrix};
use serde::{Deserialize, Serialize};

use crate::engine::gpu::limits::{MAX_THREADS, SUM_THREADS};

/// To be raised whenever the choices below change: a tuning that was stored under another version is not used.
pub(crate) const TUNING_VERSION: u32 = 3;

/// Sizes that kernels are compiled for. Whatever they are, the same bits come out: the order of every sum is that of the
/// model's shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Chunks of 16 bytes that a thread of a matrix-vector product reads of a group of rows: enough in flight to hide
    /// memory's latency.
    pub thread_chunks: usize,
    /// Threads of its workgroups, where there are rows enough for many.
    pub matvec_threads: usize,
    /// Tokens by rows that a workgroup of a matrix product computes.
    pub tile: [usize; 2],
    /// Whether the product keeps its tile of weights as 16-bit floats. This takes less workgroup memory, and loses
    /// nothing because such weights have no more bits. Only for a device with `shader-f16`, and not for fp32.
    pub tile_f16: bool,
}

/// The candidates that are measured. The first of each is the default.
pub(crate) const THREAD_CHUNKS: [usize; 3] = [8, 4, 16];
pub(crate) const MATVEC_THREADS: [usize; 3] = [MAX_THREADS, 128, 64];
/// A tile takes 128 bytes of a workgroup's 16 KiB for each token and each row (64 for a row of halves), and a thread
/// for each 4 by 4 of it.
pub(crate) const TILES: [[usize; 2]; 4] = [[32, 64], [64, 64], [32, 32], [16, 64]];

impl Default for Tuning {
    fn default() -> Self {
        Self { thread_chunks: THREAD_CHUNKS[0], matvec_threads: MATVEC_THREADS[0], tile: TILES[0], tile_f16: false }
    }
}

impl Tuning {
    /// Reads what [`to_json`](Self::to_json) wrote. `None` for anything else, since other code can write to the same
    /// storage.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().filter(Self::is_valid)
    }

    /// As JSON, to be stored.
    pub fn to_json(&self) -> String {
        let Self { thread_chunks, matvec_threads, tile: [tokens, rows], tile_f16 } = self;
        let sizes = format!(r#""thread_chunks":{thread_chunks},"matvec_threads":{matvec_threads}"#);
        let tile = format!(r#""tile":[{tokens},{rows}],"tile_f16":{tile_f16}"#);
        format!("{{{sizes},{tile}}}")
    }

    /// Whether these are sizes that have been tested.
    pub fn is_valid(&self) -> bool {
        THREAD_CHUNKS.contains(&self.thread_chunks)
            && MATVEC_THREADS.contains(&self.matvec_threads)
            && TILES.contains(&self.tile)
    }

    /// Whether a device that has `shader-f16`, or has it not, can run a model of this format so.
    pub fn fits(&self, dtype: Dtype, has_f16: bool) -> bool {
        self.is_valid() && (!self.tile_f16 || (has_f16 && dtype != Dtype::Fp32))
    }

    /// Every tuning that differs from the default in one thing, and that any device can run.
    pub fn variants() -> Vec<Self> {
        let base = Self::default();
        let chunks = THREAD_CHUNKS[1..].iter().map(|&thread_chunks| Self { thread_chunks, ..base });
        let threads = MATVEC_THREADS[1..].iter().map(|&matvec_threads| Self { matvec_threads, ..base });
        let tiles = TILES[1..].iter().map(|&tile| Self { tile, ..base });
        chunks.chain(threads).chain(tiles).collect()
    }
}

/// How the sums along a matrix's rows are cut: over the columns of a segment, then over the segments. It depends on the
/// matrix alone, so that its products for one token and for many, however they are spread, have the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segments {
    /// Columns of a segment, a multiple of 32; the last one may have fewer.
    pub n_cols: usize,
    pub n: usize,
}

impl Segments {
    pub fn of(matrix: &Matrix) -> Self {
        /// A row's segments have a thread each at most, and lie in a workgroup's memory.
        const MAX_SEGMENTS: usize = 32;
        // A segment of q4 is more than one block: of a single scaled sum added to another, compilers make an `fma`.
        let fewest = if matrix.dtype == Dtype::Q4 { 2 * BLOCK } else { BLOCK };
        let n_cols = matrix.n_cols_padded().div_ceil(MAX_SEGMENTS).next_multiple_of(BLOCK).max(fewest);
        Self { n_cols, n: matrix.n_cols_padded().div_ceil(n_cols) }
    }
}

/// How a matrix's product for one token, or for a few, is spread over threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MatvecShape {
    pub n_threads: usize,
    /// Threads that compute one group of four rows; each sums whole segments of one row.
    pub team: usize,
    /// Into how many parts the tokens are divided among a team's threads.
    pub n_parts: usize,
    /// Of each token's input, vec4s that lie in a workgroup's memory at once: whole segments, or all.
    pub tile4: usize,
    pub n_workgroups: usize,
}

impl MatvecShape {
    /// Of the inputs of all tokens, vec4s that lie in a workgroup's memory at once: half of what every device has.
    const MAX_TILE4: usize = 512;

    /// Whether the kernel is for so many tokens: their inputs along one segment lie in a workgroup's memory.
    pub fn is_for(matrix: &Matrix, n_tokens: usize) -> bool {
        n_tokens * Segments::of(matrix).n_cols / 4 <= Self::MAX_TILE4
    }

    pub fn new(matrix: &Matrix, tuning: &Tuning, n_tokens: usize) -> Self {
        /// Fewer workgroups than this leave a large GPU idle (an H200 has 132 multiprocessors).
        const MIN_WORKGROUPS: usize = 128;
        /// Each workgroup prepares the input again, so more than this only repeat that work.
        const MAX_WORKGROUPS: usize = 1024;
        /// Sums of segments that lie in a workgroup's memory for each of its threads.
        const THREAD_SUMS: usize = 4;
        let segments = Segments::of(matrix);
        let (k4, segment4) = (matrix.n_cols_padded() / 4, segments.n_cols / 4);
        let max_tile4 = Self::MAX_TILE4 / n_tokens;
        let tile4 = if k4 <= max_tile4 { k4 } else { (max_tile4 / segment4).max(1) * segment4 };

        let max_threads = if n_tokens > THREAD_SUMS { MAX_THREADS / 2 } else { MAX_THREADS };
        let max_threads = max_threads.min(tuning.matvec_threads);
        let segment_chunks = segments.n_cols / matrix.dtype.chunk_values();
        let per_thread = (tuning.thread_chunks / segment_chunks).clamp(1, (THREAD_SUMS / n_tokens).max(1));
        let segment_threads = tile4.div_ceil(segment4).div_ceil(per_thread).min(max_threads / GROUP);
        // each row of each token has a thread that adds its segments
        let n_parts = n_tokens.div_ceil(segment_threads).next_power_of_two();
        let team = GROUP * segment_threads * n_parts;

        let n_groups = matrix.n_rows_padded() / GROUP;
        let is_plenty = n_groups * team / max_threads >= MIN_WORKGROUPS;
        let fewest = SUM_THREADS.div_ceil(team); // for the norm of the input
        let n_teams = if is_plenty { fewest.max(max_threads / team) } else { fewest };
        let n_workgroups = n_groups.div_ceil(n_teams).min(MAX_WORKGROUPS);
        Self { n_threads: n_teams * team, team, n_parts, tile4, n_workgroups }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Config;
    use gpt2_kernels::{Dtype, Layout};

    #[test]
    fn teams_are_whole_and_cover_every_group() {
        let tunings: Vec<Tuning> = Tuning::variants().into_iter().chain([Tuning::default()]).collect();
        for c in [5, 32, 160, 768, 1600, 4096] {
            let json = format!(r#"{{"model_type":"gpt2","n_layer":1,"n_head":1,"n_embd":{c}}}"#);
            let config = Config::from_json(&json).unwrap();
            for dtype in Dtype::ALL {
                let layout = Layout::new(&config.dims(), dtype).unwrap();
                let block = &layout.blocks[0];
                for matrix in [&block.c_attn, &block.c_proj, &block.c_fc, &block.mlp_c_proj, &layout.wte] {
                    let cases = tunings.iter().flat_map(|tuning| [1, 2, 4, 8].map(|n_tokens| (tuning, n_tokens)));
                    for (tuning, n_tokens) in cases.filter(|&(_, n_tokens)| MatvecShape::is_for(matrix, n_tokens)) {
                        let s = MatvecShape::new(matrix, tuning, n_tokens);
                        assert!(
                            s.team.is_multiple_of(4)
                                && s.n_threads.is_multiple_of(s.team)
                                && (SUM_THREADS..=MAX_THREADS).contains(&s.n_threads),
                            "{s:?}"
                        );
                        assert!(s.team >= 4 * n_tokens && n_tokens.is_multiple_of(s.n_parts), "{s:?} for {n_tokens}");
                        let segments = Segments::of(matrix);
                        let tile_segments = s.tile4.div_ceil(segments.n_cols / 4);
                        let sums_bytes = 16 * s.n_threads / s.team * n_tokens * tile_segments;
                        let most = (4096, 8192);
                        assert!(sums_bytes <= most.0 && 16 * n_tokens * s.tile4 <= most.1, "{s:?} for {n_tokens}");
                        assert!(segments.n <= 32, "{segments:?}");
                        let n_groups = matrix.n_rows_padded() / GROUP;
                        assert!(s.n_workgroups == 1024 || s.n_workgroups * (s.n_threads / s.team) >= n_groups, "{s:?}");
                        assert!((s.n_workgroups - 1) * (s.n_threads / s.team) < n_groups, "none is idle: {s:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn halves_are_for_devices_that_have_them_and_never_for_fp32() {
        for tile in TILES {
            let halves = Tuning { tile, tile_f16: true, ..Default::default() };
            for dtype in Dtype::ALL {
                assert_eq!(halves.fits(dtype, true), dtype != Dtype::Fp32, "{dtype:?}");
                assert!(!halves.fits(dtype, false));
                assert!(Tuning { tile_f16: false, ..halves }.fits(dtype, false));
            }
            assert!(!Tuning { thread_chunks: 63, ..halves }.fits(Dtype::Q8, true));
        }
    }

    #[test]
    fn only_what_was_tested_is_read_back() {
        for tuning in Tuning::variants() {
            for tuning in [tuning, Tuning { tile_f16: true, ..tuning }] {
                assert_eq!(Tuning::from_json(&tuning.to_json()), Some(tuning));
            }
        }
        let good = Tuning::default().to_json();
        for bad in [
            "".to_string(),
            "null".to_string(),
            good.replace("32,64", "0,64"),
            good.replace("256", "1024"),
            good.replace("256", "-1"),
            good.replace('}', r#","more":1}"#),
            good.replace("false", "1"),
            good.replace(r#","tile_f16":false"#, ""),
            good[..good.len() - 2].to_string(),
        ] {
            assert_eq!(Tuning::from_json(&bad), None, "{bad}");
        }
    }
}
