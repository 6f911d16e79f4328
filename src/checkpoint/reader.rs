//! Reads a checkpoint as its bytes arrive, and holds none of them.

use super::config::Config;
use super::file_kind::{self, FileKind};
use super::intake::Intake;
use super::pytorch::{LegacyFile, ZipFile};
use super::safetensors_file::SafetensorsFile;
use super::sink::TensorSink;
use super::tensor_file::{ModelTensors, TensorFile, fill};
use crate::error::{Error, Result};

/// Takes the bytes of one or more files of weights, in pieces of any size, and passes the tensors on as they come.
#[derive(Debug)]
pub struct CheckpointReader<S> {
    intake: Intake<S>,
    file: String,
    file_bytes: Option<u64>,
    /// Bytes of the file that have come.
    n_read: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between two files.
    Idle,
    /// Gathers the bytes that tell what the file is.
    Unknown(Vec<u8>),
    /// Reads it.
    Known(KnownFile),
}

/// A file of one of our formats.
#[derive(Debug)]
enum KnownFile {
    Safetensors(SafetensorsFile),
    TorchZip(Box<ZipFile>),
    TorchLegacy(Box<LegacyFile>),
}

impl KnownFile {
    fn format(&mut self) -> &mut dyn TensorFile {
        match self {
            Self::Safetensors(file) => file,
            Self::TorchZip(file) => &mut **file,
            Self::TorchLegacy(file) => &mut **file,
        }
    }
}

impl<S: TensorSink> CheckpointReader<S> {
    /// A stream into `sink` of the tensors that a model of this configuration needs.
    pub fn new(config: Config, sink: S) -> Self {
        let intake = Intake::new(config, sink);
        Self { intake, file: String::new(), file_bytes: None, n_read: 0, state: State::Idle }
    }

    /// Begins a file. `file_bytes` is its size, where it is known. Its first bytes tell its format, not its name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file before it is incomplete.
    pub fn begin_file(&mut self, file: &str, file_bytes: Option<u64>) -> Result<()> {
        self.end_file()?;
        self.file = file.to_string();
        self.file_bytes = file_bytes;
        self.n_read = 0;
        self.intake.begin_file(file);
        self.state = State::Unknown(Vec::new());
        Ok(())
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names file and tensor, as soon as the bytes contradict the format or the model, or are
    /// of a format that cannot be read.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_read += bytes.len() as u64;
        match &mut self.state {
            State::Idle => Err(Error::InvalidState("bytes before `begin_file`".into())),
            State::Known(file) => read(file.format(), bytes, &mut self.intake),
            State::Unknown(held) => {
                let n_held = fill(held, bytes, file_kind::ENOUGH_BYTES);
                let Some(kind) = file_kind::of(held, false) else { return Ok(()) };
                let first = std::mem::take(held);
                self.open(kind, &first)?;
                self.n_read -= (bytes.len() - n_held) as u64; // they are counted when they are read
                self.write(&bytes[n_held..])
            }
        }
    }

    /// Ends the last file. → the sink, and what the user should know, as one sentence each
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is incomplete or a tensor is missing. [`Error::UntiedHead`] if the model's head
    /// differs from its embedding, which the configuration ties.
    pub fn finish(mut self) -> Result<(S, Vec<String>)> {
        self.end_file()?;
        self.intake.finish()
    }

    /// Begins to read a file whose kind and first bytes are known.
    fn open(&mut self, kind: FileKind, first: &[u8]) -> Result<()> {
        let mut file = match kind {
            // what a damaged header lacks is told best by the one who reads it
            FileKind::Unknown if self.file.ends_with(".safetensors") => {
                KnownFile::Safetensors(SafetensorsFile::new(&self.file, self.file_bytes))
            }
            FileKind::Safetensors => KnownFile::Safetensors(SafetensorsFile::new(&self.file, self.file_bytes)),
            FileKind::TorchZip => KnownFile::TorchZip(Box::new(ZipFile::new(&self.file))),
            FileKind::TorchLegacy => KnownFile::TorchLegacy(Box::new(LegacyFile::new(&self.file))),
            other => {
                let expected = "weights in safetensors' or PyTorch's format";
                return Err(Error::file(&self.file, expected, other.description()));
            }
        };
        let outcome = read(file.format(), first, &mut self.intake);
        self.state = State::Known(file);
        outcome
    }

    fn end_file(&mut self) -> Result<()> {
        if let State::Unknown(held) = &mut self.state {
            let first = std::mem::take(held);
            let kind = file_kind::of(&first, true).unwrap_or(FileKind::Empty);
            self.open(kind, &first)?;
        }
        if let State::Known(mut file) = std::mem::replace(&mut self.state, State::Idle) {
            file.format().end()?;
            if let Some(n_bytes) = self.file_bytes.filter(|&n| n != self.n_read) {
                return Err(Error::file(&self.file, format!("{n_bytes} bytes"), self.n_read.to_string()));
            }
        }
        Ok(())
    }
}

/// Writes all bytes to a file.
fn read(file: &mut dyn TensorFile, mut bytes: &[u8], model: &mut dyn ModelTensors) -> Result<()> {
    while !bytes.is_empty() {
        let n_taken = file.write(bytes, model)?;
        bytes = &bytes[n_taken..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    /// What has arrived: names, shapes and values.
    #[derive(Debug, Default)]
    struct Kept(Vec<(String, Vec<usize>, Vec<f32>)>);

    impl TensorSink for Kept {
        fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
            self.0.push((name.to_string(), shape.to_vec(), Vec::new()));
            Ok(())
        }

        fn values(&mut self, values: &[f32]) -> Result<()> {
            self.0.last_mut().unwrap().2.extend_from_slice(values);
            Ok(())
        }

        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// A config small enough to write a checkpoint of it by hand.
    fn config() -> Config {
        let json =
            r#"{"model_type":"gpt2","vocab_size":3,"n_positions":2,"n_embd":2,"n_head":1,"n_layer":1,"n_inner":1}"#;
        Config::from_json(json).unwrap()
    }

    fn checkpoint(config: &Config, change: impl Fn(&mut Vec<(String, Vec<usize>)>)) -> Vec<u8> {
        let mut tensors = names::expected_tensors(config);
        change(&mut tensors);
        let (mut entries, mut body) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in tensors {
            let begin = body.len();
            for i in 0..shape.iter().product::<usize>() {
                body.extend_from_slice(&(i as f32).to_le_bytes());
            }
            entries.insert(
                name,
                serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, body.len()] }),
            );
        }
        let json = serde_json::to_vec(&entries).unwrap();
        [&(json.len() as u64).to_le_bytes()[..], &json, &body].concat()
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Kept> {
        let mut stream = CheckpointReader::new(config(), Kept::default());
        stream.begin_file("model.safetensors", Some(bytes.len() as u64))?;
        for piece in bytes.chunks(piece) {
            stream.write(piece)?;
        }
        Ok(stream.finish()?.0)
    }

    fn warnings(bytes: &[u8]) -> Vec<String> {
        let mut stream = CheckpointReader::new(config(), Kept::default());
        stream.begin_file("model.safetensors", None).unwrap();
        stream.write(bytes).unwrap();
        stream.finish().unwrap().1
    }

    #[test]
    fn pieces_of_any_size_give_the_same_tensors() {
        let bytes = checkpoint(&config(), |t| t.push(("h.0.attn.bias".into(), vec![1, 1, 2, 2])));
        for piece in [1, 3, 7, 8, 64, bytes.len()] {
            let Kept(tensors) = read(&bytes, piece).unwrap();
            let wte = ("wte.weight".to_string(), vec![3, 2], vec![0., 1., 2., 3., 4., 5.]);
            assert!(tensors.contains(&wte), "{tensors:?}");
            assert_eq!(tensors.len(), names::expected_tensors(&config()).len(), "the buffer is left out");
        }
    }

    #[test]
    fn a_copy_of_the_tied_head_is_left_out_and_another_head_is_refused() {
        let with_head = checkpoint(&config(), |t| t.push(("lm_head.weight".into(), vec![3, 2])));
        for piece in [1, 5, with_head.len()] {
            assert!(read(&with_head, piece).is_ok(), "the same numbers");
            let mut other = with_head.clone();
            let n = other.len();
            other[n - 1] ^= 0x40; // the head's last number
            let error = read(&other, piece).unwrap_err();
            assert_eq!(error, Error::UntiedHead { file: "model.safetensors".into() });
            // the caller begins again with the head as a tensor of its own
            let mut stream = CheckpointReader::new(config().untied(), Kept::default());
            stream.begin_file("model.safetensors", None).unwrap();
            stream.write(&other).unwrap();
            let (Kept(tensors), warnings) = stream.finish().unwrap();
            assert!(warnings.is_empty() && tensors.iter().any(|(name, ..)| name == "lm_head.weight"));
        }
        let wrong_shape = checkpoint(&config(), |t| t.push(("lm_head.weight".into(), vec![2, 2])));
        assert!(read(&wrong_shape, 9).unwrap_err().to_string().contains("lm_head.weight"));
    }

    #[test]
    fn either_name_of_a_tied_pair_is_enough_in_any_file_and_order() {
        let only_head = checkpoint(&config(), |t| t[0].0 = "module.lm_head.weight".into());
        let names = |bytes: &[u8]| read(bytes, 7).unwrap().0.into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert!(names(&only_head).contains(&"wte.weight".to_string()));
        assert!(warnings(&only_head).is_empty());
        // the head in one file, the embedding in another
        let (head, wte) = (("lm_head.weight".into(), vec![3, 2]), ("wte.weight".into(), vec![3, 2]));
        let head = checkpoint(&config(), |t| *t = vec![head.clone()]);
        let wte = checkpoint(&config(), |t| *t = vec![wte.clone()]);
        let rest = checkpoint(&config(), |t| drop(t.remove(0)));
        for files in [[&head, &wte, &rest], [&rest, &wte, &head]] {
            let mut stream = CheckpointReader::new(config(), Kept::default());
            for bytes in files {
                stream.begin_file("shard", None).unwrap();
                stream.write(bytes).unwrap();
            }
            let (Kept(tensors), warnings) = stream.finish().unwrap();
            assert!(warnings.is_empty());
            assert_eq!(tensors.len(), names::expected_tensors(&config()).len());
        }
    }

    #[test]
    fn what_is_left_out_or_missing_is_told() {
        let heads = checkpoint(&config(), |t| {
            t.push(("v_head.summary.weight".into(), vec![1, 2]));
            t.push(("transformer.score.weight".into(), vec![4]));
        });
        let told = warnings(&heads);
        assert!(told.len() == 1 && told[0].contains("v_head.summary.weight") && told[0].contains("score"), "{told:?}");
        let no_bias = checkpoint(&config(), |t| t.retain(|(name, _)| !name.ends_with(".bias")));
        let told = warnings(&no_bias);
        assert!(told.len() == 1 && told[0].contains("zeros") && told[0].contains("h.0.attn.c_attn.bias"), "{told:?}");
        let Kept(tensors) = read(&no_bias, 64).unwrap();
        assert!(tensors.contains(&("ln_f.bias".to_string(), vec![2], vec![0.0, 0.0])));
        assert!(warnings(&checkpoint(&config(), |t| t.push(("h.0.attn.bias".into(), vec![2])))).is_empty());
    }

    #[test]
    fn other_formats_are_named() {
        for (bytes, word) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"[..], "git lfs pull"),
            (b"<!DOCTYPE html>\n<title>404</title>", "web page"),
            (b"\x89HDF\r\n\x1a\n\0\0\0", "TensorFlow"),
            (b"\x81\xabtransformer\x83", "Flax"),
            (b"GGUF\x03\0\0\0\0", "GGUF"),
            (b"PK\x03\x04", "zip"),
            (b"", "empty"),
        ] {
            for piece in [1, 1000] {
                let error = read(bytes, piece).unwrap_err().to_string();
                assert!(error.starts_with("model.safetensors") && error.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |bytes: &[u8], words: &[&str]| {
            let error = read(bytes, 16).unwrap_err().to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{error} lacks one of {words:?}");
        };
        let whole = checkpoint(&config(), |_| ());
        check(&checkpoint(&config(), |t| drop(t.remove(2))), &["h.0.ln_1.weight", "[2]", "no such tensor"]);
        check(&checkpoint(&config(), |t| t[0].1 = vec![2, 3]), &["wte.weight", "expected [3, 2], found [2, 3]"]);
        check(&checkpoint(&config(), |t| t.push(("h.1.ln_1.bias".into(), vec![2]))), &["h.1.ln_1.bias", "config.json"]);
        check(
            &checkpoint(&config(), |t| t.push(("transformer.wte.weight".into(), vec![3, 2]))),
            &["wte.weight", "second time"],
        );
        check(&checkpoint(&config(), |t| t.push(("h.0.attn.c_attn.qweight".into(), vec![2]))), &["quantised"]);
        check(&checkpoint(&config(), |t| t.push(("h.0.attn.c_attn.lora_A.weight".into(), vec![2]))), &["LoRA"]);
        check(&checkpoint(&config(), |t| t[4].1 = vec![6, 2]), &["h.0.attn.c_attn.weight", "transposed"]);
        check(&[whole.as_slice(), b"x"].concat(), &["found", "bytes"]);
        check(&whole[..4], &["header"]);
        let mut stream = CheckpointReader::new(config(), Kept::default());
        stream.begin_file("model.safetensors", None).unwrap();
        stream.write(&whole[..whole.len() - 1]).unwrap();
        let error = stream.finish().unwrap_err().to_string();
        assert!(error.contains("ln_f.bias") && error.contains("after 7"), "{error}");
    }
}
