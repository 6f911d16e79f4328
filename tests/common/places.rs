//! Where the files are that tests read.

use std::path::{Path, PathBuf};

/// `tests/golden/…`
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// A file that is read in place and is not part of this repository: under `$GPT2_WEB_SHARED`, or `../shared`.
///
/// `None` where there is no such folder at all, which is a reason to fail in CI and to skip elsewhere.
pub fn shared(path: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GPT2_WEB_SHARED").map(PathBuf::from);
    let must_be_there = named.is_some() || std::env::var_os("CI").is_some();
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    if !root.exists() && !must_be_there {
        eprintln!("SKIPPED: {path} is not here; tests/README.md says where to get it");
        return None;
    }
    let path = root.join(path);
    assert!(path.exists(), "{} is missing; tests/README.md says where to get it", path.display());
    Some(path)
}
