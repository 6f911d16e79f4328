//! The beginning of a safetensors file: a length and a JSON header.
#![no_main]

use gpt2_web::checkpoint::{Header, PREFIX_BYTES, names};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Some((prefix, rest)) = file.split_first_chunk::<PREFIX_BYTES>() else { return };
    let n_file = file.len() as u64;
    // a length of the fuzzer's own, then the real one: else nearly every input would end here
    let told = brief(Header::json_bytes(*prefix, "f", Some(n_file)));
    assert!(told.is_none_or(|n| n <= rest.len()), "a header longer than its file");

    let Some(header) = brief(Header::from_json(rest, "f", None)) else { return };
    let mut next = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.begin, next, "a hole or an overlap");
        assert!(tensor.begin <= tensor.end);
        next = tensor.end;
        let _ = names::is_buffer(names::canonical(&tensor.name));
    }
    // the size that the header tells is taken, and no other: not one that the sum would wrap round to either
    let n_all = next.checked_add(n_file);
    for n in [n_all, Some(n_file), Some(next), Some(next.wrapping_add(n_file))].into_iter().flatten() {
        let is_right = brief(Header::from_json(rest, "f", Some(n))).is_some();
        assert_eq!(is_right, Some(n) == n_all, "a file of {n} bytes");
    }
});
