//! The parameters that learning starts from, as transformers draws them for GPT-2.

use gpt2_web::checkpoint::Config;

use crate::fused::mix;
use crate::layout::Layout;

/// Numbers that a seed and a place decide.
#[derive(Clone, Copy, Debug)]
pub struct Coins {
    seed: u64,
    next: u64,
}

impl Coins {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed), next: 0 }
    }

    /// Uniform in [0, 1), of 53 random bits.
    pub fn flip(&mut self) -> f64 {
        self.next += 1;
        (mix(self.seed ^ self.next) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Of the standard normal distribution (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.flip()));
        radius * libm::cos(std::f64::consts::TAU * self.flip())
    }
}

/// Normal numbers of `deviation` for matrices and embeddings, divided by √(2 layers) where a block adds to the residual
/// stream (Radford et al. 2019, §2.3); gains 1, biases 0.
pub fn start(config: &Config, layout: &Layout, deviation: f64, seed: u64) -> Vec<f32> {
    let mut params = vec![0.0; layout.n_params];
    let mut coins = Coins::new(seed);
    let residual = 1.0 / ((2 * config.n_layer) as f64).sqrt();
    for slot in &layout.slots {
        let values = &mut params[slot.range.clone()];
        let is_gain = slot.shape.len() == 1 && slot.name.ends_with("weight");
        if is_gain {
            values.fill(1.0);
        } else if slot.shape.len() == 2 {
            let share = if slot.name.ends_with("c_proj.weight") { residual } else { 1.0 };
            values.iter_mut().for_each(|value| *value = (coins.normal() * deviation * share) as f32);
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_tensor_starts_as_it_should() {
        let json = r#"{"model_type":"gpt2","vocab_size":50,"n_positions":8,"n_embd":32,"n_head":2,"n_layer":2}"#;
        let config = Config::from_json(json).unwrap();
        let layout = Layout::new(&config);
        let params = start(&config, &layout, 0.02, 3);
        for slot in &layout.slots {
            let values = &params[slot.range.clone()];
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / values.len() as f64;
            let expected = match slot.name.as_str() {
                name if slot.shape.len() == 1 => f64::from(u8::from(name.ends_with("weight"))),
                name if name.ends_with("c_proj.weight") => 0.01,
                _ => 0.02,
            };
            assert!((square.sqrt() - expected).abs() <= 0.1 * expected, "{}: {}", slot.name, square.sqrt());
        }
        assert_eq!(params, start(&config, &layout, 0.02, 3));
        assert_ne!(params, start(&config, &layout, 0.02, 4));
    }
}
