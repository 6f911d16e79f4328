//! Dropout (Srivastava et al. 2014) whose masks are computed, not kept: the same number decides the same element in the
//! forward and in the backward pass, in every implementation and on any number of threads.

use super::math::vectorised;

/// Where in a model a mask stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// After the embeddings.
    Embedding,
    /// On the attention weights of one head.
    Attention {
        /// The block.
        layer: usize,
        /// The head.
        head: usize,
    },
    /// On what a block's attention adds to the residual stream.
    AttentionResidual(usize),
    /// On what a block's MLP adds to it.
    MlpResidual(usize),
}

/// The shares of `config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// `embd_pdrop`
    pub embedding: f32,
    /// `attn_pdrop`
    pub attention: f32,
    /// `resid_pdrop`
    pub residual: f32,
}

/// The masks of one row of one batch.
#[derive(Clone, Copy, Debug)]
pub struct RowDropout {
    rates: Rates,
    seed: u64,
}

impl RowDropout {
    /// The masks of row `row` of the batch whose seed this is.
    pub fn new(rates: Rates, batch_seed: u64, row: usize) -> Self {
        Self { rates, seed: mix(batch_seed ^ mix(row as u64)) }
    }

    /// The mask at a site, or none where nothing is dropped.
    pub fn mask(&self, site: Site) -> Option<Mask> {
        let (rate, number) = match site {
            Site::Embedding => (self.rates.embedding, 0),
            Site::AttentionResidual(layer) => (self.rates.residual, 1 + 4 * layer as u64),
            Site::MlpResidual(layer) => (self.rates.residual, 2 + 4 * layer as u64),
            Site::Attention { layer, head } => (self.rates.attention, (3 + 4 * layer as u64) | ((head as u64) << 32)),
        };
        (rate > 0.0).then(|| Mask {
            key: mix(self.seed ^ number) as u32,
            // an element is dropped when its number is below this
            threshold: (f64::from(rate) * 4_294_967_296.0) as u32,
            kept: 1.0 / (1.0 - rate),
        })
    }
}

/// One mask: 0 or 1 / (1 - rate) for each element.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    key: u32,
    threshold: u32,
    kept: f32,
}

impl Mask {
    /// The factor of element `i`.
    #[inline(always)]
    pub fn factor(&self, i: u32) -> f32 {
        // lowbias32 (Wellons 2018)
        let mut x = i ^ self.key;
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        if x < self.threshold { 0.0 } else { self.kept }
    }

    /// Multiplies elements `begin`.. by their factors.
    pub fn apply(&self, values: &mut [f32], begin: usize) {
        vectorised(
            #[inline(always)]
            || values.iter_mut().enumerate().for_each(|(i, value)| *value *= self.factor((begin + i) as u32)),
        );
    }
}

/// A bijection that spreads every bit over all (SplitMix64, Steele et al. 2014).
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_share_and_their_mean() {
        let rates = Rates { embedding: 0.1, attention: 0.3, residual: 0.0 };
        let dropout = RowDropout::new(rates, 7, 3);
        assert!(dropout.mask(Site::MlpResidual(0)).is_none());
        for (site, rate) in [(Site::Embedding, 0.1), (Site::Attention { layer: 1, head: 2 }, 0.3)] {
            let mask = dropout.mask(site).unwrap();
            let mut values = vec![1.0; 100_000];
            mask.apply(&mut values, 50);
            let n_dropped = values.iter().filter(|&&v| v == 0.0).count() as f64;
            assert!((n_dropped / 1e5 - rate).abs() < 0.005, "{n_dropped}");
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
            assert!((mean - 1.0).abs() < 0.01, "{mean}");
            assert_eq!(values[10], mask.factor(60));
        }
        let other = RowDropout::new(rates, 7, 4).mask(Site::Embedding).unwrap();
        assert_ne!(other.key, dropout.mask(Site::Embedding).unwrap().key);
    }
}
