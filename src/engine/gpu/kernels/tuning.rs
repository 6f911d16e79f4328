//! How work is spread over threads: the sizes that differ from GPU to GPU and are therefore measured.

use gpt2_kernels::Dtype;
use gpt2_kernels::layout::{GROUP, Matrix};
use serde::{Deserialize, Serialize};

use crate::engine::gpu::limits::MAX_THREADS;

/// To be raised whenever the choices below change: a tuning that was stored under another version is not used.
pub(crate) const TUNING_VERSION: u32 = 2;

/// Sizes that kernels are compiled for. Whatever they are, the numbers that come out are right; the last digits of sums
/// may differ.
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
    /// The smallest number of keys that a decoding attention treats as a piece of its own.
    pub split_keys: usize,
}

/// The candidates that are measured. The first of each is the default.
pub(crate) const THREAD_CHUNKS: [usize; 3] = [8, 4, 16];
pub(crate) const MATVEC_THREADS: [usize; 3] = [MAX_THREADS, 128, 64];
/// A tile takes 128 bytes of a workgroup's 16 KiB for each token and each row (64 for a row of halves), and a thread
/// for each 4 by 4 of it.
pub(crate) const TILES: [[usize; 2]; 4] = [[32, 64], [64, 64], [32, 32], [16, 64]];
pub(crate) const SPLIT_KEYS: [usize; 3] = [64, 32, 128];

impl Default for Tuning {
    fn default() -> Self {
        Self {
            thread_chunks: THREAD_CHUNKS[0],
            matvec_threads: MATVEC_THREADS[0],
            tile: TILES[0],
            tile_f16: false,
            split_keys: SPLIT_KEYS[0],
        }
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
        let Self { thread_chunks, matvec_threads, tile: [tokens, rows], tile_f16, split_keys } = self;
        let sizes = format!(r#""thread_chunks":{thread_chunks},"matvec_threads":{matvec_threads}"#);
        let tile = format!(r#""tile":[{tokens},{rows}],"tile_f16":{tile_f16}"#);
        format!(r#"{{{sizes},{tile},"split_keys":{split_keys}}}"#)
    }

    /// Whether these are sizes that have been tested.
    pub fn is_valid(&self) -> bool {
        THREAD_CHUNKS.contains(&self.thread_chunks)
            && MATVEC_THREADS.contains(&self.matvec_threads)
            && TILES.contains(&self.tile)
            && SPLIT_KEYS.contains(&self.split_keys)
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
        let splits = SPLIT_KEYS[1..].iter().map(|&split_keys| Self { split_keys, ..base });
        chunks.chain(threads).chain(tiles).chain(splits).collect()
    }
}

/// How a matrix-vector product is spread over threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MatvecShape {
    pub n_threads: usize,
    /// Threads that compute one group of four rows.
    pub team: usize,
    pub n_workgroups: usize,
}

impl MatvecShape {
    pub fn new(matrix: &Matrix, tuning: &Tuning) -> Self {
        /// Fewer workgroups than this leave a large GPU idle (an H200 has 132 multiprocessors).
        const MIN_WORKGROUPS: usize = 128;
        /// Each workgroup prepares the input again, so more than this only repeat that work.
        const MAX_WORKGROUPS: usize = 1024;
        let max_threads = tuning.matvec_threads;
        let n_groups = matrix.n_rows_padded() / GROUP;
        let team = (matrix.group_bytes() / 16 / tuning.thread_chunks).next_power_of_two().clamp(32, max_threads);
        let is_plenty = n_groups * team / max_threads >= MIN_WORKGROUPS;
        let n_threads = if is_plenty { max_threads } else { team.max(64) };
        let n_workgroups = n_groups.div_ceil(n_threads / team).min(MAX_WORKGROUPS);
        Self { n_threads, team, n_workgroups }
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
                    for tuning in &tunings {
                        let s = MatvecShape::new(matrix, tuning);
                        assert!(
                            s.team.is_multiple_of(4)
                                && s.n_threads.is_multiple_of(s.team)
                                && s.n_threads <= MAX_THREADS,
                            "{s:?}"
                        );
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
            assert!(!Tuning { split_keys: 63, ..halves }.fits(Dtype::Q8, true));
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
            good.replace("64,", "63,").replace("32,64", "0,64"),
            good.replace("256", "1024"),
            good.replace("256", "-1"),
            good.replace('}', r#","more":1}"#),
            good.replace("false", "1"),
            good.replace(r#""tile_f16":false,"#, ""),
            good[..good.len() - 2].to_string(),
        ] {
            assert_eq!(Tuning::from_json(&bad), None, "{bad}");
        }
    }
}
