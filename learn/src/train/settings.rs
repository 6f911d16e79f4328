//! What a run is told, and the presets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::Stored;
use crate::fused::LaneOptions;
use crate::optim::{AdamW, Muon, Schedule};
use crate::train::Recipe;
use crate::{Error, Result};

/// What updates the matrices in the blocks; AdamW updates the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW for all.
    AdamW,
    /// Muon for the matrices.
    Muon,
}

/// What products of matrices are computed in on Burn's devices; everything else has 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// Half precision; the loss is scaled so that small gradients are numbers in it (Micikevicius et al. 2018).
    F16,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Burn's name.
    #[cfg(feature = "burn")]
    pub(crate) fn dtype(self) -> burn::tensor::DType {
        match self {
            Self::Fp32 => burn::tensor::DType::F32,
            Self::F16 => burn::tensor::DType::F16,
            Self::Bf16 => burn::tensor::DType::BF16,
        }
    }
}

/// What decides a run, beside the model and the text. All of it is kept in the run's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Decides the start, the order of the text, the dropout masks and the samples.
    pub seed: u64,
    /// Tokens of a row.
    pub row_tokens: usize,
    /// Rows of a batch.
    pub rows: usize,
    /// Batches of a step.
    pub accumulate: usize,
    /// The learning rate, and how many steps there are.
    pub schedule: Schedule,
    /// For the matrices in the blocks.
    pub optimizer: Optimizer,
    /// λ
    pub weight_decay: f32,
    /// What the gradients' norm is clipped to; none does not clip.
    pub max_norm: Option<f64>,
    /// Steps whose rows a thread prepares beforehand; 0 prepares them between the steps.
    #[serde(default = "default_prefetch")]
    pub prefetch: usize,
    /// Threads, each with a share of the rows.
    pub threads: usize,
    /// How many rows a thread takes at once.
    pub rows_at_once: usize,
    /// Whether a block's inner results are computed again on the way back instead of being kept.
    pub recompute: bool,
    /// How the weights are written.
    pub dtype: Stored,
    /// Where it learns: `cpu`, by this crate's own passes on its threads, or Burn's devices, separated by commas.
    #[serde(default = "default_device")]
    pub device: String,
    /// On Burn's devices.
    #[serde(default)]
    pub precision: Precision,
    /// Steps after which losses are read back from Burn's devices.
    #[serde(default = "default_read_every")]
    pub read_every: usize,
    /// Steps between two measurements on the held-out text.
    pub held_out_every: u64,
    /// Tokens of the held-out text that are measured.
    pub held_out_tokens: usize,
    /// Steps between two saves.
    pub save_every: u64,
    /// Steps between two samples; 0 writes none.
    pub sample_every: u64,
}

fn default_prefetch() -> usize {
    4
}

fn default_device() -> String {
    "cpu".to_string()
}

fn default_read_every() -> usize {
    10
}

impl Settings {
    /// How a step is made.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            adamw: AdamW { weight_decay: self.weight_decay, ..AdamW::default() },
            muon: (self.optimizer == Optimizer::Muon)
                .then_some(Muon { weight_decay: self.weight_decay, ..Muon::default() }),
            schedule: self.schedule,
            max_norm: self.max_norm,
            lanes: LaneOptions { n_lanes: self.threads, rows_at_once: self.rows_at_once, recompute: self.recompute },
        }
    }

    /// Tokens of a step.
    pub fn tokens_per_step(&self) -> usize {
        self.rows * self.accumulate * self.row_tokens
    }

    /// # Errors
    /// [`Error::Option`] for what cannot be used.
    pub fn check(&self, n_positions: usize) -> Result<()> {
        if !(1..=n_positions).contains(&self.row_tokens) {
            return Err(Error::option("row-tokens", format!("1 to the model's {n_positions}"), self.row_tokens));
        }
        for (name, value) in [("rows", self.rows), ("accumulate", self.accumulate), ("threads", self.threads)] {
            if value == 0 {
                return Err(Error::option(name, "at least 1", value));
            }
        }
        for (name, value) in
            [("held-out-every", self.held_out_every), ("save-every", self.save_every), ("steps", self.schedule.steps)]
        {
            if value == 0 {
                return Err(Error::option(name, "at least 1", value));
            }
        }
        if !(self.schedule.rate > 0.0 && self.schedule.rate.is_finite()) {
            return Err(Error::option("rate", "a number above 0", self.schedule.rate));
        }
        Ok(())
    }
}

/// A model to begin with and how it learns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// A `config.json`.
    pub model: Value,
    /// How it learns.
    pub settings: Settings,
}

/// The presets' names and files.
const PRESETS: [(&str, &str); 2] =
    [("demo", include_str!("../../presets/demo.json")), ("gpt2", include_str!("../../presets/gpt2.json"))];

impl Preset {
    /// The preset of that name.
    ///
    /// # Errors
    /// [`Error::Option`] where there is none.
    pub fn named(name: &str) -> Result<Self> {
        let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        let found = PRESETS.iter().find(|(known, _)| *known == name);
        let (_, json) = found.ok_or_else(|| Error::option("preset", format!("one of {names:?}"), name))?;
        serde_json::from_str(json).map_err(|e| Error::option("preset", "a whole preset", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::read_model;

    #[test]
    fn presets_are_models_that_can_learn() {
        for (name, n_params) in [("demo", 1_933_760), ("gpt2", 124_439_808)] {
            let preset = Preset::named(name).unwrap();
            let (model, ..) = read_model(&preset.model.to_string()).unwrap();
            assert_eq!(model.layout.n_params, n_params);
            preset.settings.check(model.config.n_positions).unwrap();
        }
        assert!(Preset::named("gpt3").is_err());
    }
}
