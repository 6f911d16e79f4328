//! The dependency rules of `src/lib.rs`, kept by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

/// The file's code without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    before_tests.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Each word may be named only in files whose path under `src` starts with one of the places.
#[test]
fn dependencies_run_downward_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&src);
    assert!(files.len() > 15, "found {} source files", files.len());
    let rules: [(&str, &[&str]); 8] = [
        ("wasm_bindgen", &["web/"]),
        ("web_sys", &["web/"]),
        ("js_sys", &["web/"]),
        // but one file that asks a browser for what wgpu does not
        ("wgpu", &["device.rs", "engine/gpu/", "web/pipelines.rs"]),
        // the model and what runs it as it stands: a page has neither, and nobody else sees a tensor
        ("burn::", &["gpt2/", "engine/reference.rs"]),
        // the kernels know no tensor, and only engines and weights know the kernels
        ("gpt2_kernels::", &["engine/", "weights/", "config.rs", "device.rs", "self_test.rs", "web/"]),
        ("crate::session", &["web/", "score.rs"]),
        ("tokenizers::", &["tokenizer/"]),
    ];
    for (word, places) in rules {
        let mut n_found = 0;
        for file in &files {
            let name = file.strip_prefix(&src).expect("under src").to_string_lossy().replace('\\', "/");
            if code(file).contains(word) {
                n_found += 1;
                assert!(
                    places.iter().any(|p| name.starts_with(p)),
                    "src/{name} names `{word}`, which belongs to {places:?}"
                );
            }
        }
        assert!(n_found > 0, "no file names `{word}`: the rule is out of date");
    }
    for (file, words) in [
        ("sampler/mod.rs", ["crate::engine", "crate::gpt2", "crate::checkpoint", "rand::"]),
        ("sampler/logits.rs", ["crate::engine", "crate::gpt2", "crate::checkpoint", "rand::"]),
        ("tokenizer/mod.rs", ["crate::engine", "crate::gpt2", "crate::sampler", "crate::session"]),
        ("gpt2/mod.rs", ["crate::engine", "crate::sampler", "crate::session", "std::fs"]),
    ] {
        let code = code(&src.join(file));
        for word in words {
            assert!(!code.contains(word), "src/{file} names `{word}`");
        }
    }
}
