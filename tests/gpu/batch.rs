//! Several texts in one pass: each has the bits that it has alone.

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::Config;
use gpt2_web::engine::gpu::{GpuCache, GpuEngine};
use gpt2_web::engine::{BatchRow, Cache, Engine, Rows};
use pollster::block_on;

use crate::bits::{assert_same_bits, config, ids};
use crate::common::checks;
use crate::harness::*;
use crate::run;

/// A text in a pass: how many of its tokens are in the cache, how many are new, whose logits are wanted.
type Share = (usize, usize, Rows);

/// The tokens of the text with this number.
fn text(number: usize, config: &Config) -> Vec<u32> {
    let n = config.n_positions;
    ids(2 * n, config).into_iter().skip(number * 3).take(n).collect()
}

fn cache_of(gpu: &GpuEngine, ids: &[u32]) -> GpuCache {
    let mut cache = gpu.new_cache();
    if !ids.is_empty() {
        run(gpu, &mut cache, ids, Rows::None);
    }
    cache
}

/// Runs the shares in one pass, and then each text for another token, and compares both with texts alone.
fn check(what: &str, gpu: &GpuEngine, shares: &[Share]) {
    let config = gpu.config();
    let texts: Vec<Vec<u32>> = (0..shares.len()).map(|i| text(i, config)).collect();
    let mut caches: Vec<GpuCache> =
        shares.iter().zip(&texts).map(|(&(n_past, ..), ids)| cache_of(gpu, &ids[..n_past])).collect();
    let mut rows: Vec<BatchRow<GpuCache>> = caches
        .iter_mut()
        .zip(shares.iter().zip(&texts))
        .map(|(cache, (&(n_past, n_new, rows), ids))| BatchRow { cache, ids: &ids[n_past..n_past + n_new], rows })
        .collect();
    let found = block_on(gpu.forward_batch(&mut rows)).expect("a pass");
    for (i, ((&(n_past, n_new, rows), ids), found)) in shares.iter().zip(&texts).zip(found).enumerate() {
        let mut alone = cache_of(gpu, &ids[..n_past]);
        let expected = run(gpu, &mut alone, &ids[n_past..n_past + n_new], rows);
        assert_same_bits(&format!("{what}, text {i} of {}", shares.len()), &found.logits, &expected);
        assert_eq!(caches[i].n_tokens(), n_past + n_new, "{what}, text {i}");
        // the keys and values that the pass left behind
        let next = &ids[n_past + n_new..][..1];
        let [found, expected] = [&mut caches[i], &mut alone].map(|cache| run(gpu, cache, next, Rows::Last));
        assert_same_bits(&format!("{what}, the token after text {i}"), &found, &expected);
    }
}

/// Compositions of 1 to 8 texts: tokens after texts of every length, prompts beside them, logits of all, one and none.
fn compositions() -> Vec<Vec<Share>> {
    use Rows::{All, Last, None};
    let decode = |n_past: usize| (n_past, 1, Last);
    vec![
        vec![decode(3), decode(66)],
        vec![decode(64), decode(1), (0, 1, Last)],
        vec![decode(9), (0, 20, None), decode(65)],
        vec![(0, 40, Last), (5, 33, None), decode(63), (2, 3, All)],
        vec![decode(2), decode(65), (7, 2, All), decode(1), decode(64)],
        (0..6).map(|i| decode(1 + 12 * i)).collect(),
        vec![decode(1), decode(2), decode(3), (0, 17, All), decode(60), (60, 6, All), (0, 1, None)],
        (0..8).map(|i| decode(66 - 9 * i)).collect(),
        (0..8).map(|i| (i, 5 + i, if i % 2 == 0 { Last } else { All })).collect(),
    ]
}

#[test]
fn texts_in_one_pass_have_the_bits_of_texts_alone() {
    for dtype in Dtype::ALL {
        let Some(gpu) = Packed::golden("odd", dtype).gpu() else { return };
        checks::texts_in_one_pass_have_the_bits_of_texts_alone(dtype.name(), &gpu);
    }
}

#[test]
fn every_composition_gives_the_same_bits() {
    let odd = r#""n_embd":65,"n_head":5,"n_layer":2,"n_inner":131,"vocab_size":203,"n_positions":80"#;
    let usual = r#""n_embd":192,"n_head":3,"n_layer":1,"vocab_size":130,"n_positions":80"#;
    // inputs that fit a workgroup's memory for no more than four tokens at once
    let wide = r#""n_embd":36,"n_head":3,"n_layer":1,"n_inner":9000,"vocab_size":130,"n_positions":80"#;
    for (json, dtypes) in [(odd, &Dtype::ALL[..]), (usual, &[Dtype::Q8]), (wide, &[Dtype::Q4])] {
        for &dtype in dtypes {
            let config = config(json);
            let packed = Packed::random(config.clone(), dtype);
            let Some(gpu) = packed.gpu() else { return };
            for (i, shares) in compositions().iter().enumerate() {
                check(&format!("C = {}, {}, composition {i}", config.n_embd, dtype.name()), &gpu, shares);
            }
        }
    }
}
