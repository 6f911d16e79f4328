//! Which matrices get an adapter, of which rank, and what it starts from.

use gpt2_web::adapter::MODULES;
use gpt2_web::checkpoint::Config;

use crate::fused::{LoraLayout, LoraPart, N_MODULES, mix};
use crate::{Error, Result};

/// An adapter to be learnt. The names are PEFT's.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// r
    pub r: usize,
    /// α
    pub lora_alpha: f32,
    /// s = α / √r in the place of α / r.
    pub use_rslora: bool,
    /// Ends of the names of modules: `c_proj` is both `attn.c_proj` and `mlp.c_proj`.
    pub target_modules: Vec<String>,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self { r: 8, lora_alpha: 16.0, use_rslora: false, target_modules: vec!["c_attn".into()] }
    }
}

/// Inputs and outputs of a module.
fn shape(config: &Config, module: usize) -> (usize, usize) {
    let (c, inner) = (config.n_embd, config.n_inner);
    [(c, 3 * c), (c, c), (c, inner), (inner, c)][module]
}

impl LoraSettings {
    /// Which of [`MODULES`] get an adapter, in their order.
    ///
    /// # Errors
    /// [`Error::Option`] for a rank of 0 or above 256, an α that is no positive number, or a name that fits no module.
    fn modules(&self) -> Result<[bool; N_MODULES]> {
        if !(1..=256).contains(&self.r) {
            return Err(Error::option("r", "a whole number from 1 to 256", self.r));
        }
        if !(self.lora_alpha > 0.0 && self.lora_alpha.is_finite()) {
            return Err(Error::option("lora_alpha", "a number above 0", self.lora_alpha));
        }
        let fits = |module: &str, target: &str| module == target || module.ends_with(&format!(".{target}"));
        let strange = self.target_modules.iter().find(|target| !MODULES.iter().any(|(module, _)| fits(module, target)));
        match strange {
            Some(target) => Err(Error::option("target_modules", "names of c_attn, c_proj and c_fc", target)),
            None if self.target_modules.is_empty() => Err(Error::option("target_modules", "at least one", "none")),
            None => Ok(MODULES.map(|(module, _)| self.target_modules.iter().any(|target| fits(module, target)))),
        }
    }

    /// Where the adapter's matrices stand.
    ///
    /// # Errors
    /// [`Error::Option`] names a setting that cannot be used.
    pub fn layout(&self, config: &Config) -> Result<LoraLayout> {
        let modules = self.modules()?;
        let r = self.r as f32;
        let scale = self.lora_alpha / if self.use_rslora { r.sqrt() } else { r };
        let mut n_params = 0;
        let mut range = |n: usize| {
            let begin = n_params;
            n_params += n;
            begin..n_params
        };
        let mut part = |module: usize| {
            let (n_in, n_out) = shape(config, module);
            LoraPart { rank: self.r, a: range(self.r * n_in), b: range(n_out * self.r), scale }
        };
        let block = |_| core::array::from_fn(|module| modules[module].then(|| part(module)));
        let blocks = (0..config.n_layer).map(block).collect();
        Ok(LoraLayout { blocks, n_params })
    }
}

/// The start, as PEFT has it: A uniform within ±1/√K (Kaiming with a = √5), B zero, so that nothing changes at first.
pub fn start(layout: &LoraLayout, seed: u64) -> Vec<f32> {
    let mut params = vec![0.0; layout.n_params];
    let mut state = seed;
    for part in layout.blocks.iter().flatten().flatten() {
        let bound = 1.0 / ((part.a.len() / part.rank) as f32).sqrt();
        for value in &mut params[part.a.clone()] {
            state = mix(state);
            // 24 bits, as many as an f32 below 1 has
            *value = bound * (2.0 * (state >> 40) as f32 / (1 << 24) as f32 - 1.0);
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let json =
            r#"{"model_type":"gpt2","vocab_size":7,"n_positions":5,"n_embd":4,"n_head":2,"n_layer":2,"n_inner":6}"#;
        Config::from_json(json).unwrap()
    }

    #[test]
    fn targets_are_ends_of_names() {
        let of = |targets: &[&str]| {
            let target_modules = targets.iter().map(|t| t.to_string()).collect();
            LoraSettings { r: 2, target_modules, ..LoraSettings::default() }.layout(&config())
        };
        let adapted = |targets: &[&str]| of(targets).unwrap().blocks[1].each_ref().map(Option::is_some);
        assert_eq!(adapted(&["c_proj"]), [false, true, false, true]);
        assert_eq!(adapted(&["attn.c_proj", "c_fc"]), [false, true, true, false]);
        let layout = of(&["c_attn", "c_fc"]).unwrap();
        assert_eq!(layout.n_params, 2 * (2 * (4 + 12) + 2 * (4 + 6)));
        for (targets, name) in [(&["proj"][..], "target_modules"), (&[], "target_modules"), (&["q_proj"], "q_proj")] {
            assert!(of(targets).unwrap_err().to_string().contains(name));
        }
        for r in [0, 257] {
            let error = LoraSettings { r, ..LoraSettings::default() }.layout(&config()).unwrap_err();
            assert!(error.to_string().contains("`r`"));
        }
    }

    #[test]
    fn the_start_changes_nothing_and_is_the_seeds() {
        let layout = LoraSettings::default().layout(&config()).unwrap();
        let params = start(&layout, 5);
        for part in layout.blocks.iter().flatten().flatten() {
            let a = &params[part.a.clone()];
            assert!(a.iter().all(|x| x.abs() <= 0.5 && *x != 0.0));
            assert!(a.iter().any(|x| *x > 0.25) && a.iter().any(|x| *x < -0.25));
            assert!(params[part.b.clone()].iter().all(|&x| x == 0.0));
        }
        assert_eq!(params, start(&layout, 5));
        assert_ne!(params, start(&layout, 6));
    }
}
