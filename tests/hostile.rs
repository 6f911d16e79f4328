//! Files are untrusted: whatever the bytes, reading them ends in a value or an error, never in a panic, and never
//! allocates by a hostile file's word.

mod common;

use burn::tensor::Device;
use common::*;
use gpt2_web::checkpoint::{CheckpointReader, Header, index};
use gpt2_web::checkpoint::{Config, names};
use gpt2_web::engine::ReferenceSink;
use gpt2_web::generate::GenerateOptions;
use gpt2_web::tokenizer::Tokenizer;
use proptest::prelude::*;

/// Where to change a file, and to what.
type Edits = Vec<(prop::sample::Index, u8)>;

fn edits() -> impl Strategy<Value = (Edits, prop::sample::Index, bool)> {
    (
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
}

/// The bytes with some of them overwritten and, perhaps, the end cut off.
fn edited(bytes: &[u8], (edits, cut, is_cut): &(Edits, prop::sample::Index, bool)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in edits {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if *is_cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(golden(path)).expect("golden file")
}

fn stream(config: &Config, bytes: &[u8], is_size_known: bool) -> gpt2_web::Result<ReferenceSink> {
    let mut stream = CheckpointReader::new(config.clone(), ReferenceSink::new(Device::flex()));
    stream.begin_file("model.safetensors", is_size_known.then_some(bytes.len() as u64))?;
    for piece in bytes.chunks(1000) {
        stream.write(piece)?;
    }
    Ok(stream.finish()?.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..Default::default() })]

    #[test]
    fn checkpoints(edits in edits(), in_header in any::<bool>(), is_size_known in any::<bool>()) {
        let config = Config::from_json(&text(&golden("models/one/config.json"))).expect("config");
        let whole = read("models/one/model.safetensors");
        // most of the damage where it matters: the JSON, not the numbers
        let bytes = match in_header {
            true => {
                let n_header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
                [edited(&whole[..n_header], &edits), whole[n_header..].to_vec()].concat()
            }
            false => edited(&whole, &edits),
        };
        let _ = stream(&config, &bytes, is_size_known);
    }

    #[test]
    fn headers_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), n in any::<u64>()) {
        let _ = Header::from_json(&bytes, "f", Some(n));
        let _ = Header::json_bytes(n.to_le_bytes(), "f", None);
    }

    #[test]
    fn configs(edits in edits()) {
        let bytes = edited(&read("models/base/config.json"), &edits);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(config) = Config::from_json(&text) {
            let _ = names::n_params(&config);
            let _ = GenerateOptions::defaults(&config, Some(&text));
        }
        let _ = index::shard_names("model.safetensors.index.json", &text);
    }
}

proptest! {
    // each case reads 260 kB of JSON
    #![proptest_config(ProptestConfig { cases: 60, ..Default::default() })]

    #[test]
    fn tokenizers(edits in edits(), text in ".{0,40}") {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo");
        let bytes = edited(&std::fs::read(folder.join("tokenizer.json")).expect("tokenizer.json"), &edits);
        if let Ok(tokenizer) = Tokenizer::from_tokenizer_json(&bytes)
            && let Ok(ids) = tokenizer.encode(&text)
        {
            let _ = tokenizer.decode(&ids);
        }
    }
}

/// Depth is what a recursive parser dies of.
#[test]
fn deep_json_is_an_error() {
    let deep = "[".repeat(100_000);
    assert!(Config::from_json(&deep).is_err());
    assert!(index::shard_names("model.safetensors.index.json", &deep).is_err());
    assert!(Header::from_json(deep.as_bytes(), "f", None).is_err());
    assert!(Tokenizer::from_tokenizer_json(deep.as_bytes()).is_err());
    assert!(Tokenizer::from_vocab_and_merges(&deep, "").is_err());
}
