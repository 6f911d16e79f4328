//! Scores and weighted values over the cache.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use gpt2_kernels::cache::{Cache, PAGE, Query, padded_dim};

use crate::input::{Rng, dims, largest};

#[test]
fn attention_over_the_cache_equals_the_oracle() {
    let mut rng = Rng(5);
    for d in [1, 5, 16, 24, 64, 80, 128] {
        for is_quantised in [false, true] {
            let mut cache = Cache::new(&dims(d, 1, d), is_quantised, None);
            let n = 2 * PAGE + 3;
            cache.reserve(n);
            let ordinary = |rng: &mut Rng| -> Vec<f32> { (0..d).map(|_| rng.normal()).collect() };
            let (k, v): (Vec<_>, Vec<_>) = (0..n).map(|_| (ordinary(&mut rng), ordinary(&mut rng))).unzip();
            let head = &mut cache.parts_mut().0[0];
            (0..n).for_each(|i| head.put(i, &k[i], &v[i]));
            let q = ordinary(&mut rng);
            let mut query = Query::new(d);
            query.set(&q, 0.25);
            for n_keys in [1, 2, PAGE - 1, PAGE, PAGE + 1, n] {
                let mut scores = vec![f32::NAN; n_keys];
                head.scores(&query, &mut scores);
                // i8 keys round to 1/254 of the largest
                let step = if is_quantised { 1.0 / 254.0 } else { 1e-6 };
                for (i, score) in scores.iter().enumerate() {
                    let expected: f32 = q.iter().zip(&k[i]).map(|(q, k)| 0.25 * q * k).sum();
                    let bound = 0.25 * step * largest(&k[i]) * q.iter().map(|q| q.abs()).sum::<f32>() * 1.01 + 1e-6;
                    assert!((score - expected).abs() <= bound, "D = {d}, key {i}: {expected}, found {score}");
                }
                let weights: Vec<f32> = (0..n_keys).map(|_| rng.normal().abs() / n_keys as f32).collect();
                let mut out = vec![[0.0; 4]; padded_dim(d) / 4];
                head.add_values(&weights, &mut out);
                for (i, found) in out.as_flattened()[..d].iter().enumerate() {
                    let expected: f32 = weights.iter().zip(&v).map(|(w, v)| w * v[i]).sum();
                    let bound: f32 =
                        weights.iter().zip(&v).map(|(w, v)| w * step * largest(v) * 1.05).sum::<f32>() + 1e-5;
                    assert!((found - expected).abs() <= bound, "D = {d}, {n_keys} keys: {expected}, found {found}");
                }
            }
        }
    }
}
