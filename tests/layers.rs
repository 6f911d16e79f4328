//! The order of the rooms in `src/lib.rs`, kept by reading the sources.

#[path = "../kernels/tests/sources/mod.rs"]
mod sources;

use std::collections::BTreeMap;
use std::path::Path;

use sources::{circle, read, rooms, uses};

/// The rooms from the ground up: each uses only those before it.
const ORDER: [&str; 10] =
    ["token", "error", "checkpoint", "adapter", "tokenizer", "gpt2", "sampler", "engine", "generate", "web"];

/// Crates that only some files may name: the files whose path begins with one of these.
const CRATES: [(&str, &[&str]); 7] = [
    ("wasm_bindgen", &["web/"]),
    ("web_sys", &["web/"]),
    ("js_sys", &["web/"]),
    // of the web surface, one file asks the browser for what wgpu does not offer, one translates an adapter's limits
    ("wgpu", &["engine/gpu/", "web/pipelines.rs", "web/device.rs"]),
    // a page has neither of the two, and nothing else sees a tensor
    ("burn", &["gpt2/", "engine/reference.rs"]),
    ("gpt2_kernels", &["checkpoint/", "adapter/", "engine/", "web/"]),
    ("tokenizers", &["tokenizer/"]),
];

fn texts() -> BTreeMap<String, String> {
    let texts = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(texts.len() > 50, "found {} source files", texts.len());
    texts
}

#[test]
fn no_files_and_no_rooms_use_each_other_in_a_circle() {
    let uses = uses(&texts());
    for (file, used) in [
        ("engine/gpu/run/pass.rs", "engine/gpu/kernels/model.rs"),
        ("generate/session.rs", "engine/interface.rs"),
        ("gpt2/mod.rs", "checkpoint/config.rs"),
        ("web/loader.rs", "tokenizer/mod.rs"),
    ] {
        assert!(uses[file].contains(used), "{file} uses {used}, but the reader found {:?}", uses[file]);
    }
    assert_eq!(circle(&uses), None, "files");
    assert_eq!(circle(&rooms(&uses)), None, "rooms");
}

#[test]
fn each_room_uses_only_rooms_below_it() {
    let place = |room: &str| ORDER.iter().position(|name| *name == room);
    for (room, used) in rooms(&uses(&texts())).iter().filter(|(room, _)| *room != "lib") {
        let own = place(room).unwrap_or_else(|| panic!("the room `{room}` has no place in the order"));
        for below in used {
            let below_place = place(below).unwrap_or_else(|| panic!("`{room}` uses `{below}`, which has no place"));
            assert!(below_place < own, "`{room}` uses `{below}`, which is above it");
        }
    }
}

#[test]
fn only_some_rooms_name_a_backend() {
    for (name, places) in CRATES {
        let mut n_found = 0;
        for (file, text) in texts() {
            let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let code: String = before_tests.lines().filter_map(|line| line.split("//").next()).collect();
            if [format!("{name}::"), format!("use {name};")].iter().any(|word| code.contains(word)) {
                n_found += 1;
                let is_allowed = places.iter().any(|place| file.starts_with(place));
                assert!(is_allowed, "src/{file} names the crate `{name}`, which belongs to {places:?}");
            }
        }
        assert!(n_found > 0, "no file names `{name}`: the rule is out of date");
    }
}
