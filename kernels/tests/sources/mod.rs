//! Which files of a crate use which, read from the sources: what tests of the layers stand on.
//!
//! A file uses another if it names it in a path, in a `use` or anywhere else: `crate::a::b`, `super::b`, `self::b`, or
//! `b::c` where `b` is a module below it. A path belongs to the innermost module on it; where that module passes the
//! name on (`pub use b::Name;`), it belongs to the file in which the name is written. So neither `mod b;` nor `pub use
//! b::Name;` is a use, unless `Name` occurs elsewhere in the file. Comments, strings and items under `#[cfg(test)]` do
//! not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each file and the files that it uses, by their paths below `src`, such as `a/mod.rs`.
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// The text of each `.rs` file below a folder, by its path below it.
pub fn read(src: &Path) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![src.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(src).expect("below src").to_string_lossy().replace('\\', "/");
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                texts.insert(name, text);
            }
        }
    }
    texts
}

/// Which of these files use which.
pub fn uses(texts: &BTreeMap<String, String>) -> Uses {
    let files: Files = texts.keys().map(|name| (module(name), name.as_str())).collect();
    let paths: BTreeMap<&str, Paths> =
        texts.iter().map(|(name, text)| (name.as_str(), Paths::of(&tokens(text), &module(name), &files))).collect();
    let passed_on = paths.values().flat_map(|paths| paths.passed_on.clone()).collect();
    let uses_of = |name: &str, paths: &Paths| {
        let mut used: BTreeSet<String> =
            paths.used.iter().filter_map(|path| file_of(path, &files, &passed_on)).map(str::to_string).collect();
        used.remove(name);
        used
    };
    paths.iter().map(|(name, paths)| (name.to_string(), uses_of(name, paths))).collect()
}

/// Where each name that a module passes on is written: the path under which it is offered, and the path that it has.
type PassedOn = BTreeMap<Vec<String>, Vec<String>>;

/// The file in which the end of a path is written.
fn file_of<'a>(path: &[String], files: &Files<'a>, passed_on: &PassedOn) -> Option<&'a str> {
    /// A name that is passed on more often than this is passed on in a circle.
    const MAX_STEPS: usize = 16;
    let mut path = path.to_vec();
    for _ in 0..MAX_STEPS {
        let offered = (1..=path.len()).find_map(|n| Some((n, passed_on.get(&path[..n])?)));
        let Some((n, written)) = offered else { break };
        path = [written, &path[n..]].concat();
    }
    (0..=path.len()).rev().find_map(|n| files.get(&path[..n]).copied())
}

/// The same for the crate's rooms, which are the files and folders directly below `src`.
pub fn rooms(uses: &Uses) -> Uses {
    let room = |file: &String| file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_string();
    let mut rooms = Uses::new();
    for (file, used) in uses {
        let of_room = rooms.entry(room(file)).or_default();
        of_room.extend(used.iter().map(room).filter(|used| *used != room(file)));
    }
    rooms
}

/// A circle, from a file over those that it uses back to itself; `None` if there is none.
pub fn circle(uses: &Uses) -> Option<Vec<String>> {
    let mut left = uses.clone();
    loop {
        // what uses nothing that is left is in no circle
        let done: Vec<String> = left
            .iter()
            .filter(|(_, used)| !used.iter().any(|u| left.contains_key(u)))
            .map(|(f, _)| f.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        done.iter().for_each(|file| drop(left.remove(file)));
    }
    let mut way = vec![left.keys().next()?.clone()];
    loop {
        let next = left[&way[way.len() - 1]].iter().find(|used| left.contains_key(*used)).expect("it is left").clone();
        if let Some(first) = way.iter().position(|file| *file == next) {
            way.push(next);
            return Some(way.split_off(first));
        }
        way.push(next);
    }
}

/// The file of each module, by the module's path.
type Files<'a> = BTreeMap<Vec<String>, &'a str>;

/// The module of a file: `a/b.rs` is `["a", "b"]`, `a/mod.rs` is `["a"]`, and `lib.rs` is `[]`.
fn module(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

/// Words, `::` and single other characters of the code, without comments, strings and items under `#[cfg(test)]`.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let n = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            rest[3..].find(end).map_or(rest.len(), |n| 3 + n + end.len())
        } else if c == '"' {
            string_bytes(rest, '"')
        } else if c == '\'' {
            // 'x' and '\n' are characters, 'a is a lifetime
            let is_char = rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'');
            if is_char { string_bytes(rest, '\'') } else { 1 }
        } else {
            let n = if is_of_word(c) {
                rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                c.len_utf8()
            };
            if !c.is_whitespace() {
                tokens.push(rest[..n].to_string());
            }
            n
        };
        rest = &rest[n..];
    }
    without_tests(tokens)
}

/// Bytes of a literal that begins and ends with this quote.
fn string_bytes(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return i + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Leaves out each item under `#[cfg(test)]`, which ends with its closing brace or, if it has none, its semicolon.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        kept.push(token);
        if kept.ends_with(&["#", "[", "cfg", "(", "test", ")", "]"].map(str::to_string)) {
            kept.truncate(kept.len() - 7);
            let mut depth = 0;
            for token in tokens.by_ref() {
                depth += i32::from(token == "{") - i32::from(token == "}");
                if depth == 0 && (token == "}" || token == ";") {
                    break;
                }
            }
        }
    }
    kept
}

/// Whether the token is a name or a keyword.
fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The paths in a file that begin in this crate, from its root on.
#[derive(Default)]
struct Paths {
    used: Vec<Vec<String>>,
    /// Those of `pub use`, by the path under which they are offered.
    passed_on: PassedOn,
}

impl Paths {
    fn of(tokens: &[String], module: &[String], files: &Files) -> Self {
        let mut found = Self::default();
        // the file's module, and the modules that are written in it, with the depth of braces at which each ends
        let (mut here, mut ends, mut depth) = (module.to_vec(), Vec::new(), 0);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).map_or("", |i| tokens[i].as_str());
            let after = tokens.get(at + 1).map_or("", String::as_str);
            let hides = before == "[" && token == "path" && after == "=";
            assert!(!hides, "{module:?}: #[path] hides where a module lies");
            match token.as_str() {
                "{" => {
                    depth += 1;
                    if at >= 2 && tokens[at - 2] == "mod" {
                        here.push(before.to_string());
                        ends.push(depth);
                    }
                }
                "}" => {
                    if ends.last() == Some(&depth) {
                        ends.pop();
                        here.pop();
                    }
                    depth -= 1;
                }
                word if is_word(word) && before != "::" && before != "." && (after == "::" || before == "use") => {
                    let is_passed_on = before == "use" && at >= 2 && matches!(tokens[at - 2].as_str(), "pub" | ")");
                    let mut tree = Vec::new();
                    at = read_tree(tokens, at, &[], &mut tree);
                    for path in tree.into_iter().filter_map(|path| from_root(path, &here, files)) {
                        let name = path.last().filter(|_| is_passed_on);
                        if let Some(name) = name {
                            found.passed_on.insert([&here[..], std::slice::from_ref(name)].concat(), path.clone());
                        }
                        // a name that is passed on may be needed here as well
                        if name.is_none_or(|name| tokens.iter().filter(|token| *token == name).count() > 1) {
                            found.used.push(path);
                        }
                    }
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }
}

/// Reads a path, which may branch as those of `use` do: `a::{b, c::d}`. → where it ends
fn read_tree(tokens: &[String], mut at: usize, stem: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = stem.to_vec();
    loop {
        match tokens.get(at).map_or("", String::as_str) {
            "{" if at > 0 && tokens[at - 1] == "::" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    let next = read_tree(tokens, at, &path, found);
                    at = next.max(at + 1);
                    while tokens.get(at).is_some_and(|t| t != "," && t != "}") {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at).is_some_and(|t| t == ","));
                }
                return at + 1;
            }
            word if is_word(word) => {
                path.push(word.to_string());
                at += 1;
                if tokens.get(at).is_some_and(|t| t == "::") {
                    at += 1;
                    continue;
                }
            }
            _ => {} // `*`, or the `<` of generics
        }
        found.push(path);
        return at;
    }
}

/// A path in module `here`, from the crate's root on; `None` if it begins elsewhere.
fn from_root(path: Vec<String>, here: &[String], files: &Files) -> Option<Vec<String>> {
    let mut path = path.as_slice();
    let mut from = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => here.to_vec(),
        child => {
            let below = [here, &[child.to_string()]].concat();
            return files.contains_key(&below).then(|| [here, path].concat());
        }
    };
    if path[0] != "super" {
        path = &path[1..];
    }
    while path.first().is_some_and(|word| word == "super") {
        from.pop()?;
        path = &path[1..];
    }
    Some([&from, path].concat())
}
