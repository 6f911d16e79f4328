//! Checkpoints in the forms that people publish, read into a plain list of tensors: `../shared/cases`, and files that
//! are written here, byte for byte as PyTorch writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gpt2_web::checkpoint::{CheckpointReader, Config, TensorSink, WEIGHT_FILES, index};
use gpt2_web::{Error, Result};
use proptest::prelude::*;
use serde_json::Value;

/// What has arrived, by name: shape and values.
#[derive(Debug, Default, Clone, PartialEq)]
struct Kept {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    current: String,
}

impl TensorSink for Kept {
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        self.current = name.to_string();
        assert!(self.tensors.insert(name.to_string(), (shape.to_vec(), Vec::new())).is_none(), "{name} twice");
        Ok(())
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        self.tensors.get_mut(&self.current).expect("begun").1.extend_from_slice(values);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (shape, values) = &self.tensors[&self.current];
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{}", self.current);
        Ok(())
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// Reads files in pieces of so many bytes. → tensors and warnings
fn read(config: &Config, files: &Files, piece: usize, is_size_known: bool) -> Result<(Kept, Vec<String>)> {
    let mut reader = CheckpointReader::new(config.clone(), Kept::default());
    for (name, bytes) in files {
        reader.begin_file(name, is_size_known.then_some(bytes.len() as u64))?;
        for piece in bytes.chunks(piece) {
            reader.write(piece)?;
        }
    }
    reader.finish()
}

fn cases() -> Option<PathBuf> {
    let named = std::env::var_os("GPT2_WEB_SHARED").map(PathBuf::from);
    let must_be_there = named.is_some() || std::env::var_os("CI").is_some();
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let folder = root.join("cases/checkpoints");
    assert!(folder.exists() || !must_be_there, "{} is missing; tests/README.md says where to get it", folder.display());
    folder.exists().then_some(folder)
}

fn config(folder: &Path) -> Config {
    Config::from_json(&fs::read_to_string(folder.join("config.json")).expect("config.json")).expect("config")
}

fn weights(folder: &Path) -> Files {
    let found = WEIGHT_FILES.into_iter().find(|name| folder.join(name).exists()).expect("weights");
    let bytes = |name: &str| fs::read(folder.join(name)).expect("weights");
    match found.ends_with(".json") {
        true => {
            let json = String::from_utf8(bytes(found)).expect("UTF-8");
            let shards = index::shard_names(found, &json).expect("index");
            shards.into_iter().map(|name| (name.clone(), bytes(&name))).collect()
        }
        false => vec![(found.to_string(), bytes(found))],
    }
}

/// Every case loads or is refused as its `expected.json` says, in pieces of any size.
#[test]
fn every_case_is_read_or_refused() {
    let Some(folder) = cases() else { return eprintln!("SKIPPED: shared/cases is not here") };
    let base = read(&config(&folder.join("base")), &weights(&folder.join("base")), 4096, true).expect("base").0;
    let mut n = 0;
    for entry in fs::read_dir(&folder).expect("cases") {
        let folder = entry.expect("a case").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let json = fs::read_to_string(folder.join("expected.json")).expect("expected.json");
        let expected: Value = serde_json::from_str(&json).expect("JSON");
        let (config, files) = (config(&folder), weights(&folder));
        let found = read(&config, &files, 4096, true);
        for piece in [1, 13, 1000, usize::MAX] {
            assert_eq!(read(&config, &files, piece, false), found, "{name}: pieces of {piece}");
        }
        n += 1;
        if expected["outcome"] == "error" {
            let error = found.expect_err(&name).to_string().to_lowercase();
            for word in expected["error_says"].as_array().expect("a list") {
                assert!(error.contains(word.as_str().expect("a word")), "{name}: {error}");
            }
            continue;
        }
        let (kept, warnings) = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        match name.as_str() {
            "bin_zip" | "bin_sharded" | "lm_head_only" | "v_head" | "f64" => assert_eq!(kept, base_as(&base, &kept)),
            _ => {}
        }
        match name.as_str() {
            "v_head" => assert!(warnings.len() == 1 && warnings[0].contains("v_head"), "{warnings:?}"),
            "no_bias" => assert!(warnings.len() == 1 && warnings[0].contains("zeros"), "{warnings:?}"),
            _ => assert!(warnings.is_empty(), "{name}: {warnings:?}"),
        }
    }
    assert!(n >= 25, "found {n} cases");
}

/// The same tensors; which one came last is no matter.
fn base_as(base: &Kept, other: &Kept) -> Kept {
    Kept { current: other.current.clone(), ..base.clone() }
}

// ---- files as torch.save writes them -------------------------------------------------------------------------------

const CONFIG: &str =
    r#"{"model_type":"gpt2","vocab_size":3,"n_positions":2,"n_embd":2,"n_head":1,"n_layer":1,"n_inner":1}"#;

/// A tensor to be saved: a view of a storage.
#[derive(Clone)]
struct View {
    name: String,
    storage: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Tensors, and storages of f32 numbers.
#[derive(Clone)]
struct Saved {
    views: Vec<View>,
    storages: Vec<Vec<f32>>,
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect()
}

/// The tensors of a model of [`CONFIG`], each in a storage of its own, and what a reader should make of them.
fn saved() -> (Saved, Kept) {
    let config = Config::from_json(CONFIG).expect("config");
    let (mut saved, mut expected) = (Saved { views: Vec::new(), storages: Vec::new() }, Kept::default());
    for (i, (name, shape)) in gpt2_web::checkpoint::names::expected_tensors(&config).into_iter().enumerate() {
        let values: Vec<f32> = (0..shape.iter().product()).map(|k| (i * 100 + k) as f32).collect();
        let view = View { name: format!("transformer.{name}"), storage: i, offset: 0, strides: strides(&shape), shape };
        expected.tensors.insert(name, (view.shape.clone(), values.clone()));
        saved.views.push(view);
        saved.storages.push(values);
    }
    (saved, expected)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn int(out: &mut Vec<u8>, n: usize) {
    out.push(b'J');
    out.extend_from_slice(&(n as i32).to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, numbers: &[usize]) {
    out.push(b'(');
    numbers.iter().for_each(|&n| int(out, n));
    out.push(b't');
}

/// The pickle of an `OrderedDict` of tensors.
fn pickle(saved: &Saved, class: &str) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for view in &saved.views {
        text(&mut out, &view.name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend_from_slice(format!("ctorch\n{class}\n").as_bytes());
        text(&mut out, &view.storage.to_string());
        text(&mut out, "cpu");
        int(&mut out, saved.storages[view.storage].len());
        out.extend_from_slice(b"tQ");
        int(&mut out, view.offset);
        tuple(&mut out, &view.shape);
        tuple(&mut out, &view.strides);
        out.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend_from_slice(b"u}");
    text(&mut out, "_metadata");
    out.extend_from_slice(b"}sb.");
    out
}

/// How a zip archive tells sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sizes {
    /// Behind the entry, as PyTorch does.
    Behind,
    /// The same in 64 bits, as PyTorch does beyond 4 GiB.
    Behind64,
    /// Before it, as an archive that was packed again has it.
    Before,
}

fn zip(entries: &[(String, Vec<u8>)], sizes: Sizes) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in entries {
        let n = bytes.len() as u32;
        let told = if sizes == Sizes::Before { n } else { 0 };
        out.extend_from_slice(b"PK\x03\x04\0\0");
        out.extend_from_slice(&[if sizes == Sizes::Before { 0 } else { 8 }, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&told.to_le_bytes());
        out.extend_from_slice(&told.to_le_bytes());
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[6, 0]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"FB\x02\0ZZ");
        out.extend_from_slice(bytes);
        match sizes {
            Sizes::Before => {}
            Sizes::Behind => out.extend([&b"PK\x07\x08crc!"[..], &n.to_le_bytes(), &n.to_le_bytes()].concat()),
            Sizes::Behind64 => {
                let n = u64::from(n).to_le_bytes();
                out.extend([&b"PK\x07\x08crc!"[..], &n, &n].concat());
            }
        }
    }
    out.extend_from_slice(b"PK\x01\x02 and what else stands in a directory");
    out.extend_from_slice(b"PK\x05\x06");
    out.extend_from_slice(&[0; 18]); // counts, offsets, and a comment of no length
    out
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The entries of an archive in PyTorch's order.
fn entries(saved: &Saved) -> Vec<(String, Vec<u8>)> {
    let mut entries = vec![
        ("archive/data.pkl".to_string(), pickle(saved, "FloatStorage")),
        ("archive/byteorder".to_string(), b"little".to_vec()),
    ];
    let storage = |(i, values): (usize, &Vec<f32>)| (format!("archive/data/{i}"), le_bytes(values));
    entries.extend(saved.storages.iter().enumerate().map(storage));
    entries.push(("archive/empty".to_string(), Vec::new()));
    entries.push(("archive/version".to_string(), b"3\n".to_vec()));
    entries
}

/// A file of PyTorch before 1.6.
fn legacy(saved: &Saved) -> Vec<u8> {
    let mut out =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(U\x08protocolM\xe9\x03u.".to_vec();
    out.extend(pickle(saved, "FloatStorage"));
    out.extend_from_slice(b"\x80\x02](");
    // one that no tensor uses is not written
    let is_used = |storage: &usize| saved.views.iter().any(|view| view.storage == *storage);
    let order: Vec<usize> = (0..saved.storages.len()).rev().filter(is_used).collect();
    order.iter().for_each(|i| text(&mut out, &i.to_string()));
    out.extend_from_slice(b"e.");
    for i in order {
        out.extend_from_slice(&(saved.storages[i].len() as u64).to_le_bytes());
        out.extend(le_bytes(&saved.storages[i]));
    }
    out
}

fn open(bytes: &[u8], piece: usize) -> Result<(Kept, Vec<String>)> {
    open_as(&Config::from_json(CONFIG)?, bytes, piece)
}

fn open_as(config: &Config, bytes: &[u8], piece: usize) -> Result<(Kept, Vec<String>)> {
    read(config, &vec![("pytorch_model.bin".to_string(), bytes.to_vec())], piece, true)
}

/// All forms of a file.
fn forms(saved: &Saved) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("legacy".to_string(), legacy(saved))];
    for sizes in [Sizes::Behind, Sizes::Behind64, Sizes::Before] {
        let mut entries = entries(saved);
        forms.push((format!("{sizes:?}"), zip(&entries, sizes)));
        entries.rotate_left(4); // storages before the pickle
        forms.push((format!("{sizes:?}, the pickle later"), zip(&entries, sizes)));
    }
    forms
}

fn check_forms(saved: &Saved, config: &Config, expected: &Kept) {
    for (form, bytes) in forms(saved) {
        for piece in [1, 7, 64, usize::MAX] {
            let (kept, warnings) = open_as(config, &bytes, piece).unwrap_or_else(|e| panic!("{form}, {piece}: {e}"));
            assert_eq!(kept.tensors, expected.tensors, "{form}, pieces of {piece}");
            assert!(warnings.is_empty(), "{form}: {warnings:?}");
        }
    }
}

#[test]
fn zip_and_legacy_files_in_pieces_of_any_size() {
    let (saved, expected) = saved();
    check_forms(&saved, &Config::from_json(CONFIG).expect("config"), &expected);
}

#[test]
fn transposed_shared_and_cut_storages() {
    let (mut saved, mut expected) = saved();
    // wpe, [2, 2], as the transpose of what is stored
    saved.views[1].strides = vec![1, 2];
    let wpe = saved.storages[1].clone();
    expected.tensors.get_mut("wpe.weight").expect("wpe").1 = vec![wpe[0], wpe[2], wpe[1], wpe[3]];
    // two tensors one after the other in one storage, with a gap before each
    let (a, b) = (saved.storages[2].clone(), saved.storages[3].clone());
    saved.storages[2] = [&[9.0][..], &a, &[9.0, 9.0], &b].concat();
    saved.views[2].offset = 1;
    (saved.views[3].storage, saved.views[3].offset) = (2, 3 + a.len());
    // an expanded one: a stride of zero
    let at = saved.views.iter().position(|view| view.name.ends_with("ln_f.bias")).expect("ln_f.bias");
    saved.views[at].strides = vec![0];
    expected.tensors.get_mut("ln_f.bias").expect("ln_f.bias").1 = vec![saved.storages[at][0]; 2];
    // the tied head is the embedding's memory
    let head = View { name: "lm_head.weight".into(), ..saved.views[0].clone() };
    saved.views.push(head);
    let config = Config::from_json(CONFIG).expect("config");
    check_forms(&saved, &config, &expected);
    // and where the configuration does not tie them, it is a tensor of its own
    let embedding = expected.tensors["wte.weight"].clone();
    expected.tensors.insert("lm_head.weight".into(), embedding);
    check_forms(&saved, &config.untied(), &expected);
}

#[test]
fn what_is_no_state_dict_is_told() {
    let (saved, _) = saved();
    let says = |bytes: &[u8], words: &[&str]| {
        for piece in [1, 1000] {
            let error = open(bytes, piece).expect_err("refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
        }
    };
    let with_pickle = |pickle: &[u8]| zip(&[("a/data.pkl".to_string(), pickle.to_vec())], Sizes::Behind);
    says(&with_pickle(b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R."), &["pytorch_model.bin", "posix.system"]);
    says(&with_pickle(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."), &["builtins.eval"]);
    says(&with_pickle(b"\x80\x02c__builtin__\neval\n."), &["builtins.eval"]);
    says(&with_pickle(b"\x80\x02}X\x05\0\0\0epochK\x03s."), &["state dict", "epoch"]);
    says(&with_pickle(b"\x80\x02K\x03."), &["state dict"]);
    says(&with_pickle(b"\x80\x02)\x81."), &["pytorch_model.bin"]);
    says(&zip(&[("model/config.json".to_string(), b"{}".to_vec())], Sizes::Before), &["data.pkl", "model/config.json"]);
    says(b"\x80\x02}q\0.", &["pickle"]);
    let whole = zip(&entries(&saved), Sizes::Behind);
    for n_missing in [1, 21, 22, 40] {
        says(&whole[..whole.len() - n_missing], &["whole zip archive", "directory"]);
    }
    let quantised = zip(&[("a/data.pkl".to_string(), pickle(&saved, "QInt8Storage"))], Sizes::Behind);
    says(&quantised, &["quantised", "wte.weight"]);
    // a view that reaches beyond its storage
    let mut beyond = saved.clone();
    beyond.views[0].offset = 1;
    says(&zip(&entries(&beyond), Sizes::Behind), &["storage of 24 bytes"]);
    // a storage that is not there
    let mut entries = entries(&saved);
    entries.retain(|(name, _)| name != "archive/data/1");
    says(&zip(&entries, Sizes::Behind), &["wpe.weight", "storage `1`"]);
}

#[test]
fn other_number_formats_and_a_nested_state_dict() {
    let (saved, expected) = saved();
    for (class, write) in [
        ("DoubleStorage", (|x: f32| f64::from(x).to_le_bytes().to_vec()) as fn(f32) -> Vec<u8>),
        ("BFloat16Storage", |x| half::bf16::from_f32(x).to_le_bytes().to_vec()),
        ("HalfStorage", |x| half::f16::from_f32(x).to_le_bytes().to_vec()),
    ] {
        let mut entries = entries(&saved);
        entries[0].1 = pickle(&saved, class);
        for (i, values) in saved.storages.iter().enumerate() {
            entries[i + 2].1 = values.iter().flat_map(|&x| write(x)).collect();
        }
        let (kept, _) = open(&zip(&entries, Sizes::Behind), 50).unwrap_or_else(|e| panic!("{class}: {e}"));
        for (name, (shape, values)) in &expected.tensors {
            let rounded = values.iter().map(|&x| match class {
                "BFloat16Storage" => half::bf16::from_f32(x).to_f32(),
                _ => x,
            });
            assert_eq!(kept.tensors[name], (shape.clone(), rounded.collect()), "{class}: {name}");
        }
    }
    let mut big = entries(&saved);
    big[1].1 = b"big".to_vec();
    for (i, values) in saved.storages.iter().enumerate() {
        big[i + 2].1 = values.iter().flat_map(|x| x.to_be_bytes()).collect();
    }
    assert_eq!(open(&zip(&big, Sizes::Behind), 50).expect("big").0.tensors, expected.tensors);

    let mut nested = entries(&saved);
    let inner = &nested[0].1[2..nested[0].1.len() - 1];
    nested[0].1 = [b"\x80\x02}(X\x05\0\0\0epochK\x03X\x0a\0\0\0state_dict", inner, b"u."].concat();
    let (kept, warnings) = open(&zip(&nested, Sizes::Behind), 50).expect("nested");
    assert_eq!(kept.tensors, expected.tensors);
    assert!(warnings.len() == 1 && warnings[0].contains("state_dict"), "{warnings:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Damaged bytes are an error or other numbers, and the same whatever the pieces are.
    #[test]
    fn damage_is_told_and_pieces_change_nothing(
        form in 0..7_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        piece in 1..200_usize,
    ) {
        let mut bytes = forms(&saved().0).swap_remove(form).1;
        for (at, byte) in edits {
            let n = bytes.len();
            bytes[at.index(n)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let bits = |found: Result<(Kept, Vec<String>)>| -> std::result::Result<_, Error> {
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            Ok(found?.0.tensors.into_iter().map(|(name, (_, values))| (name, bits(values))).collect::<Vec<_>>())
        };
        match (bits(open(&bytes, piece)), bits(open(&bytes, usize::MAX))) {
            (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected),
            (found, expected) => prop_assert_eq!(found.is_err(), expected.is_err()),
        }
    }

    #[test]
    fn pickles_of_any_bytes_end(pickle in prop::collection::vec(any::<u8>(), 0..300), piece in 1..50_usize) {
        let bytes = zip(&[("a/data.pkl".to_string(), pickle)], Sizes::Before);
        prop_assert!(open(&bytes, piece).is_err());
    }
}
