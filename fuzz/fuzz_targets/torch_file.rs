//! A file of `torch.save`, zip archive or older, of a tiny model, arriving in pieces of any size: read, or refused.
//! A pickle alone is put into an archive first, so that its instructions are what the fuzzer changes.
#![no_main]

use gpt2_web::Result;
use gpt2_web::checkpoint::{CheckpointReader, Config, TensorSink};
use gpt2_web_fuzz::brief;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str =
    r#"{"model_type":"gpt2","vocab_size":3,"n_positions":2,"n_embd":2,"n_head":1,"n_layer":1,"n_inner":1}"#;

/// Counts what a model of that configuration has.
#[derive(Debug, PartialEq)]
struct Count(usize);

impl TensorSink for Count {
    fn begin(&mut self, _: &str, _: &[usize]) -> Result<()> {
        Ok(())
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        self.0 += values.len();
        assert!(self.0 <= 100, "more numbers than the model has");
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

fn read(config: &Config, file: &[u8], n_piece: usize) -> Option<Count> {
    let mut reader = CheckpointReader::new(config.clone(), Count(0));
    brief(reader.begin_file("pytorch_model.bin", None))?;
    for piece in file.chunks(n_piece) {
        brief(reader.write(piece))?;
    }
    Some(brief(reader.finish())?.0)
}

/// A zip archive with this as its `data.pkl`.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let n = (pickle.len() as u32).to_le_bytes();
    let header = [&b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &n, &n, b"\x0a\0\0\0a/data.pkl"].concat();
    [&header, pickle, b"PK\x01\x02PK\x05\x06", &[0; 18]].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&n_piece, file)) = bytes.split_first() else { return };
    let Some(config) = brief(Config::from_json(CONFIG)) else { unreachable!("it is right") };
    let is_pickle = file.first() == Some(&0x80) && file.get(2) != Some(&0x8a);
    let file = if is_pickle { archive(file) } else { file.to_vec() };
    let whole = read(&config, &file, file.len().max(1));
    assert_eq!(read(&config, &file, 1 + usize::from(n_piece)), whole, "in pieces");
});
