//! Tokenizers of every kind, held against what transformers makes of the same files.

#[path = "common/places.rs"]
mod places;

use std::fs;
use std::path::{Path, PathBuf};

use gpt2_web::tokenizer::{FILES, Tokenizer, TokenizerFiles};
use places::{golden, shared};
use proptest::prelude::*;
use serde_json::Value;

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn ids(json: &Value) -> Vec<u32> {
    json.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// The tokenizer's files in a folder, asked for as a page asks for them.
fn files(folder: &Path) -> TokenizerFiles {
    let mut files = TokenizerFiles::default();
    for name in ["config.json"].into_iter().chain(FILES) {
        if files.is_wanted(name)
            && let Ok(bytes) = fs::read(folder.join(name))
        {
            files.set(name, bytes).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        }
    }
    files
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "nothing in {}", root.display());
    folders
}

/// What a stream makes of tokens, at its own pace.
fn streamed(tokenizer: &Tokenizer, before: &[u32], ids: &[u32]) -> String {
    let mut stream = tokenizer.stream_after(before);
    let text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text + &stream.finish()
}

/// Holds a folder's tokenizer against its `expected.json`. → how many values there were
fn check(folder: &Path) -> usize {
    let expected = json(&folder.join("expected.json"));
    let name = folder.display();
    let (tokenizer, warnings) = Tokenizer::from_files(files(folder)).unwrap_or_else(|e| panic!("{name}: {e}"));
    if expected["warns"] == false {
        assert_eq!(warnings, [""; 0], "{name}");
    }
    for word in expected["tokenizer_warns"].as_array().into_iter().flatten() {
        let word = word.as_str().expect("a word");
        assert!(warnings.iter().any(|warning| warning.contains(word)), "{name}: no {word:?} in {warnings:?}");
    }
    let mut n = 0;
    for case in expected["encode"].as_array().into_iter().flatten() {
        let (text, ids) = (case["text"].as_str().expect("a text"), ids(&case["ids"]));
        assert_eq!(tokenizer.encode(text).expect("encode"), ids, "{name}: {text:?}");
        n += 1;
    }
    for case in expected["decode"].as_array().into_iter().flatten() {
        let (text, ids) = (case["text"].as_str().expect("a text"), ids(&case["ids"]));
        assert_eq!(tokenizer.decode(&ids).expect("decode"), text, "{name}: {ids:?}");
        assert_eq!(streamed(&tokenizer, &[], &ids), text, "{name}: {ids:?} as a stream");
        n += 1;
    }
    if let (Some(text), true) = (expected["text"].as_str(), expected["ids"].is_array()) {
        let (prompt, greedy) = (ids(&expected["ids"]), ids(&expected["greedy"]));
        assert_eq!(streamed(&tokenizer, &prompt, &greedy), text, "{name}: after the prompt");
        n += 1;
    }
    n
}

#[test]
fn every_case_is_as_in_transformers() {
    let Some(root) = shared("cases/checkpoints") else { return };
    let n: usize = folders(&root).iter().map(|folder| check(folder)).sum();
    assert!(n >= 60, "only {n} values");
}

#[test]
fn every_relative_is_as_in_transformers() {
    let n: usize = folders(&golden("tokenizers")).iter().map(|folder| check(folder)).sum();
    assert!(n >= 500, "only {n} values");
}

#[test]
fn gpt2s_own_files_equal_their_vectors() {
    let Some(folder) = shared("gpt2-tokenizer") else { return };
    let mut only_vocabulary = files(&folder);
    only_vocabulary.tokenizer_json = None;
    for name in ["vocab.json", "merges.txt"] {
        only_vocabulary.set(name, fs::read(folder.join(name)).expect(name)).expect(name);
    }
    for files in [files(&folder), only_vocabulary] {
        let (tokenizer, warnings) = Tokenizer::from_files(files).expect("tokenizer");
        assert_eq!(warnings, [""; 0]);
        let vectors = json(&folder.join("vectors.json"));
        let vectors = vectors.as_array().expect("vectors");
        assert!(vectors.len() > 20);
        for case in vectors {
            let (text, ids) = (case["text"].as_str().expect("a text"), ids(&case["ids"]));
            assert_eq!(tokenizer.encode(text).expect("encode"), ids, "{text:?}");
            assert_eq!(tokenizer.encode_prompt(text).expect("encode"), ids, "{text:?}");
            assert_eq!(tokenizer.decode(&ids).expect("decode"), text);
        }
    }
}

#[test]
fn a_prompt_has_what_stands_before_it_and_nothing_behind() {
    for (name, expected) in [("bert_cased", (true, false)), ("roberta", (true, false)), ("gpt2_add_bos", (true, true))]
    {
        let (tokenizer, _) = Tokenizer::from_files(files(&golden("tokenizers").join(name))).expect(name);
        let (whole, prompt) = (tokenizer.encode("he").expect(name), tokenizer.encode_prompt("he").expect(name));
        assert_eq!((whole.starts_with(&prompt), prompt == whole), expected, "{name}: {whole:?} {prompt:?}");
        assert!(tokenizer.special_text(prompt[0]).is_some(), "{name}: {prompt:?}");
    }
}

#[test]
fn a_sentencepiece_model_alone_says_what_would_help() {
    let mut files = TokenizerFiles::default();
    files.set("spiece.model", b"\x0a\x0e\x0a\x05<unk>".to_vec()).expect("a name");
    let error = Tokenizer::from_files(files).expect_err("no tokenizer").to_string();
    for word in ["spiece.model", "SentencePiece", "tokenizer.json", "save_pretrained"] {
        assert!(error.contains(word), "{error}");
    }
}

/// All tokenizers that can be had, with their names.
fn all() -> Vec<(String, Tokenizer)> {
    let mut found = folders(&golden("tokenizers"));
    found.extend(shared("cases/checkpoints").map(|root| folders(&root)).into_iter().flatten());
    let read =
        |folder: PathBuf| (folder.display().to_string(), Tokenizer::from_files(files(&folder)).expect("tokenizer").0);
    found.into_iter().map(read).collect()
}

#[test]
fn any_ids_stream_to_the_text_of_the_whole() {
    let all = all();
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(numbers in prop::collection::vec(any::<u32>(), 0..30), cut in 0usize..30)| {
        for (name, tokenizer) in &all {
            let ids: Vec<u32> = numbers.iter().map(|n| n % tokenizer.vocab_size() as u32).collect();
            let ids: Vec<u32> = ids.into_iter().filter(|&id| tokenizer.piece(id).is_some()).collect();
            let whole = tokenizer.decode(&ids).expect("decode");
            prop_assert_eq!(&streamed(tokenizer, &[], &ids), &whole, "{}", name);
            // what follows adds its own text, where it does not change the text before it
            let (before, after) = ids.split_at(cut.min(ids.len()));
            let begun = tokenizer.decode(before).expect("decode");
            if let Some(added) = whole.strip_prefix(&begun) {
                prop_assert_eq!(streamed(tokenizer, before, after), added, "{}", name);
            }
            for &id in &ids {
                tokenizer.piece_text(id);
            }
        }
    });
}

#[test]
fn damaged_files_never_panic() {
    let folders = folders(&golden("tokenizers"));
    let edit = (
        any::<prop::sample::Index>(),
        prop_oneof![
            Just(b"0".to_vec()),
            Just(b"\"\"".to_vec()),
            Just(b"}".to_vec()),
            Just(b"-1".to_vec()),
            Just("\u{2581}".as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..3)
        ],
    );
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let edits = prop::collection::vec(edit, 1..4);
    proptest!(config, |(at in any::<prop::sample::Index>(), edits in edits, text in ".{0,30}")| {
        let mut files = files(&folders[at.index(folders.len())]);
        let places = [&mut files.tokenizer_json, &mut files.tokenizer_config_json, &mut files.added_tokens_json,
            &mut files.vocab_json, &mut files.merges_txt, &mut files.vocab_txt];
        for bytes in places.into_iter().flatten().filter(|bytes| !bytes.is_empty()) {
            for (place, new) in &edits {
                let begin = place.index(bytes.len());
                let end = (begin + new.len()).min(bytes.len());
                bytes.splice(begin..end, new.iter().copied());
                if bytes.is_empty() {
                    break;
                }
            }
        }
        if let Ok((tokenizer, _)) = Tokenizer::from_files(files)
            && let Ok(ids) = tokenizer.encode(&text)
        {
            let _ = tokenizer.decode(&ids);
        }
    });
}

/// The places of a JSON text whose values are neither objects nor arrays.
fn leaves<'a>(json: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match json {
        Value::Object(fields) => fields.values_mut().for_each(|field| leaves(field, found)),
        Value::Array(items) => items.iter_mut().for_each(|item| leaves(item, found)),
        _ => found.push(json),
    }
}

/// Files that are well-formed and say what no tokenizer should: the values are of the right kinds often enough to reach
/// the steps themselves.
#[test]
fn files_with_other_values_never_panic() {
    let folders = folders(&golden("tokenizers"));
    let values = prop::sample::select(vec![
        Value::Null,
        true.into(),
        false.into(),
        0.into(),
        1.into(),
        (-1).into(),
        4_294_967_295u32.into(),
        u64::MAX.into(),
        1e308.into(),
        "".into(),
        " ".into(),
        "a".into(),
        "\u{2581}".into(),
        "he".into(),
        "b?".into(),
        "<0xE2>".into(),
        "ByteLevel".into(),
        "Fuse".into(),
        "Strip".into(),
        "CTC".into(),
        "Metaspace".into(),
        "BPE".into(),
        "Unigram".into(),
        "MergedWithPrevious".into(),
        "first".into(),
        "BertTokenizer".into(),
    ]);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let edits = prop::collection::vec((any::<prop::sample::Index>(), values, any::<bool>()), 1..5);
    let numbers = prop::collection::vec(any::<u32>(), 9);
    proptest!(config, |(at in any::<prop::sample::Index>(), edits in edits, numbers in numbers)| {
        let mut files = files(&folders[at.index(folders.len())]);
        for bytes in [&mut files.tokenizer_json, &mut files.tokenizer_config_json].into_iter().flatten() {
            let mut json: Value = serde_json::from_slice(bytes).expect("our own files");
            // the steps and flags rather than one of the hundreds of tokens
            let mut model = json.get_mut("model").map_or(Value::Null, Value::take);
            let mut found = Vec::new();
            leaves(&mut json, &mut found);
            let n = found.len();
            leaves(&mut model, &mut found);
            for (place, value, in_model) in &edits {
                let n = if *in_model || n == 0 { found.len() } else { n };
                *found[place.index(n)] = value.clone();
            }
            if !model.is_null() {
                json["model"] = model;
            }
            *bytes = json.to_string().into_bytes();
        }
        if let Ok((tokenizer, _)) = Tokenizer::from_files(files) {
            for text in ["the  hen\u{2581} isn't <mask> <s>x [SEP]", "あ\u{301} \u{ff4b}\t™", " ", "12 3,4!"] {
                if let Ok(ids) = tokenizer.encode(text) {
                    let _ = tokenizer.decode(&ids);
                }
            }
            let ids: Vec<u32> = numbers.iter().map(|n| n % tokenizer.vocab_size().max(1) as u32).collect();
            let known: Vec<u32> = ids.into_iter().filter(|&id| tokenizer.piece(id).is_some()).collect();
            prop_assert_eq!(streamed(&tokenizer, &[], &known), tokenizer.decode(&known).expect("decode"));
        }
    });
}
