//! What the fuzz targets share.

use gpt2_web::Result;

/// Passes a reader's answer on. An error quotes little of the file: its text goes to a page, and to its log.
pub fn brief<T>(answer: Result<T>) -> Option<T> {
    let error = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(error.len() <= 1000, "an error of {} bytes: {error}", error.len());
    answer.ok()
}
