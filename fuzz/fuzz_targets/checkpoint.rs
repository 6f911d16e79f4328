//! A whole checkpoint of a tiny model, arriving in pieces of any size: packed, or refused.
#![no_main]

use gpt2_kernels::Dtype;
use gpt2_web::checkpoint::{CheckpointReader, Config, PackingSink, packing};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str =
    r#"{"model_type":"gpt2","vocab_size":3,"n_positions":2,"n_embd":2,"n_head":1,"n_layer":1,"n_inner":1}"#;

/// → the packed weights, if the file is one of this model
fn pack(config: &Config, dtype: Dtype, file: &[u8], n_piece: usize) -> Option<Vec<u8>> {
    let layout = brief(packing::layout(config, dtype))?;
    let mut image = vec![0; layout.n_bytes];
    let write = |offset: usize, bytes: &[u8]| {
        image[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    let mut stream = CheckpointReader::new(config.clone(), PackingSink::new(layout, write));
    brief(stream.begin_file("model.safetensors", Some(file.len() as u64)))?;
    for piece in file.chunks(n_piece) {
        brief(stream.write(piece))?;
    }
    brief(stream.finish())?;
    Some(image)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[dtype, n_piece], file)) = bytes.split_first_chunk() else { return };
    let Some(config) = brief(Config::from_json(CONFIG)) else { unreachable!("it is right") };
    let dtype = Dtype::ALL[usize::from(dtype) % 4];
    let whole = pack(&config, dtype, file, file.len().max(1));
    assert_eq!(pack(&config, dtype, file, 1 + usize::from(n_piece)), whole, "in pieces");
});
