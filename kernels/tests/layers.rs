//! No circle of files: each file of `src` can be understood from those that it uses, without coming back to it.
#![cfg(not(target_arch = "wasm32"))]

mod sources;

use std::collections::BTreeMap;
use std::path::Path;

use sources::{circle, read, rooms, uses};

#[test]
fn no_files_and_no_rooms_use_each_other_in_a_circle() {
    let uses = uses(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    for (file, used) in [
        ("forward/mod.rs", "forward/pass.rs"),
        ("forward/pass.rs", "forward/stages.rs"),
        ("layout.rs", "format.rs"),
        ("module/mod.rs", "module/threads.rs"),
        ("simd/wasm.rs", "simd/chunk.rs"),
    ] {
        assert!(uses[file].contains(used), "{file} uses {used}, but the reader found {:?}", uses[file]);
    }
    assert_eq!(circle(&uses), None, "files");
    assert_eq!(circle(&rooms(&uses)), None, "rooms");
}

/// What the reader finds in `a/mod.rs` beside `a/b.rs`, `c.rs` and `lib.rs`.
fn found(text: &str) -> Vec<String> {
    let texts = [("a/mod.rs", text), ("a/b.rs", ""), ("c.rs", ""), ("lib.rs", "")];
    let texts: BTreeMap<_, _> = texts.map(|(name, text)| (name.to_string(), text.to_string())).into();
    uses(&texts)["a/mod.rs"].iter().cloned().collect()
}

#[test]
fn the_reader_finds_every_way_to_name_a_file() {
    for (text, expected) in [
        ("use crate::c;", &["c.rs"][..]),
        ("use crate::c::{Name, Other as Another};", &["c.rs"]),
        ("use crate::{a::b::Name, c::Other};", &["a/b.rs", "c.rs"]),
        ("pub use b::Name; fn f() -> Name {}", &["a/b.rs"]),
        ("pub(crate) use b::{Name, Third}; fn f() -> super::a::Third {}", &["a/b.rs"]),
        ("use b as other;", &["a/b.rs"]),
        ("use self::b::*;", &["a/b.rs"]),
        ("use super::c::Name;", &["c.rs"]),
        ("use super::Name;", &["lib.rs"]),
        ("fn f(x: &'a crate::c::Name) -> Vec<super::c::Other> { b::g(x) }", &["a/b.rs", "c.rs"]),
        ("const C: char = '\"'; use crate::c;", &["c.rs"]),
        ("mod inner { use super::super::c::Name; use super::b; }", &["a/b.rs", "c.rs"]),
        ("#[cfg(test)] mod tests { fn f() {} } use crate::c;", &["c.rs"]),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn the_reader_passes_over_what_is_no_use() {
    for text in [
        "mod b;",
        "pub use b::Name;",
        "use std::c::Name;",
        "/// [`crate::c`]\nfn f() {} // crate::c\n/* crate::c */",
        "const TEXT: &str = \"crate::c \\\" crate::c\";",
        "#[cfg(test)]\nmod tests { use crate::c; }",
        "#[cfg(test)] use crate::c;",
        "use crate::a::Name;",
        "use super::a::Name;",
        "fn f(c: X) { c.b(); other::b::g() }",
        "fn f() -> usize { <u8 as Into<usize>>::into(1) + Vec::<u8>::new().len() }",
    ] {
        assert_eq!(found(text), [] as [&str; 0], "{text}");
    }
}

#[test]
fn a_circle_is_told_with_its_files() {
    let of = |pairs: &[(&str, &[&str])]| {
        let strings = |used: &[&str]| used.iter().map(|u| u.to_string()).collect();
        pairs.iter().map(|(file, used)| (file.to_string(), strings(used))).collect()
    };
    assert_eq!(circle(&of(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    let found = circle(&of(&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"]), ("d", &[])]));
    assert_eq!(found, Some(["b", "c", "b"].map(str::to_string).to_vec()));
    let uses = of(&[("x/a.rs", &["y.rs"]), ("y.rs", &["x/b.rs"]), ("x/b.rs", &[])]);
    assert_eq!(circle(&uses), None);
    assert_eq!(circle(&rooms(&uses)), Some(["x", "y", "x"].map(str::to_string).to_vec()));
}
