//! What a fine-tuning is told.

use serde::Deserialize;

use crate::lora::LoraSettings;
use crate::{Error, Result};

/// What learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// An adapter, beside a model that stays as it is.
    #[default]
    Lora,
    /// Every parameter of the model.
    Full,
}

/// What is asked for. The names are those of PEFT and of transformers' `TrainingArguments`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneSettings {
    /// What learns.
    pub method: Method,
    /// The adapter's rank.
    pub r: usize,
    /// The adapter's factor counts as this over the rank.
    pub lora_alpha: f32,
    /// Over the root of the rank.
    pub use_rslora: bool,
    /// Ends of the names of the modules that get one.
    pub target_modules: Vec<String>,
    /// The highest learning rate; by default what suits the method.
    pub learning_rate: Option<f64>,
    /// How many steps; by default as many as `epochs` make.
    pub steps: Option<u64>,
    /// How often each token is learnt from.
    pub epochs: f64,
    /// Rows at once.
    pub batch_size: usize,
    /// How many times so many rows make a step.
    pub gradient_accumulation_steps: usize,
    /// Tokens in a row.
    pub max_length: usize,
    /// Steps in which the rate rises.
    pub warmup_steps: Option<u64>,
    /// The share of the text that is kept back.
    pub eval_fraction: f64,
    /// Decides the start and the order.
    pub seed: u64,
}

impl Default for FinetuneSettings {
    fn default() -> Self {
        let LoraSettings { r, lora_alpha, use_rslora, .. } = LoraSettings::default();
        // a few pages have few rows: every matrix learns from each of them
        let target_modules = ["c_attn", "c_proj", "c_fc"].map(String::from).to_vec();
        Self {
            method: Method::Lora,
            r,
            lora_alpha,
            use_rslora,
            target_modules,
            learning_rate: None,
            steps: None,
            epochs: 3.0,
            batch_size: 1,
            gradient_accumulation_steps: 1,
            max_length: 256,
            warmup_steps: None,
            eval_fraction: 0.1,
            seed: 0,
        }
    }
}

impl FinetuneSettings {
    /// The adapter.
    pub fn lora(&self) -> LoraSettings {
        LoraSettings {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules.clone(),
        }
    }

    /// The highest learning rate: a small step in every parameter changes more than one in an adapter's.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.method {
            Method::Lora => 1e-3,
            Method::Full => 5e-4,
        })
    }

    /// # Errors
    /// [`Error::Option`] names what cannot be used.
    pub(super) fn check(&self) -> Result<()> {
        let rate = self.rate();
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(Error::option("learning_rate", "a number above 0", rate));
        }
        if !(self.epochs > 0.0 && self.epochs.is_finite()) {
            return Err(Error::option("epochs", "a number above 0", self.epochs));
        }
        for (option, n) in [
            ("batch_size", self.batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("max_length", self.max_length),
        ] {
            if n == 0 {
                return Err(Error::option(option, "a whole number above 0", n));
            }
        }
        match self.steps {
            Some(0) => Err(Error::option("steps", "a whole number above 0", 0)),
            _ => Ok(()),
        }
    }
}
