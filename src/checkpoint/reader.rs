//! Reads a checkpoint as its bytes arrive, and holds none of them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::config::Config;
use super::names;
use super::safetensors::{Header, PREFIX_BYTES, TensorInfo};
use super::stored_dtype::StoredDtype;
use crate::error::{Error, Result, excerpt};

/// Where a checkpoint's tensors go: one after the other, in the file's order, each with a name and a shape that the
/// model expects.
pub trait TensorSink {
    /// Begins a tensor of f32 values, row-major.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for it.
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()>;

    /// Takes its next values.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for values that cannot be used; the file is the caller's to name.
    fn values(&mut self, values: &[f32]) -> Result<()>;

    /// Ends it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn end(&mut self) -> Result<()>;
}

impl<S: TensorSink + ?Sized> TensorSink for Box<S> {
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        (**self).begin(name, shape)
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        (**self).values(values)
    }

    fn end(&mut self) -> Result<()> {
        (**self).end()
    }
}

/// Takes the bytes of one or more safetensors files, in pieces of any size, and passes the tensors on as they come.
#[derive(Debug)]
pub struct CheckpointReader<S> {
    config: Config,
    sink: S,
    /// Shapes of the tensors still to come.
    awaited: HashMap<String, Vec<usize>>,
    seen: HashSet<String>,
    /// Of a tied model: fingerprints of `wte.weight` and of the copy of it that some checkpoints carry as the head.
    wte_hash: Option<u64>,
    head_hash: Option<u64>,
    file: String,
    file_bytes: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between two files.
    Idle,
    /// Gathers the header's length, then its JSON.
    Header(Vec<u8>),
    /// Reads `rest[0]`, of which `n_read` bytes have come. `rest` is never empty, nor is its first tensor.
    Body { rest: VecDeque<TensorInfo>, n_read: u64, part: Part },
    /// Nothing may follow.
    End,
}

impl<S: TensorSink> CheckpointReader<S> {
    /// A stream into `sink` of the tensors that a model of this configuration needs.
    pub fn new(config: Config, sink: S) -> Self {
        let awaited = names::expected_tensors(&config).into_iter().collect();
        let state = State::Idle;
        Self {
            config,
            sink,
            awaited,
            seen: HashSet::new(),
            wte_hash: None,
            head_hash: None,
            file: String::new(),
            file_bytes: None,
            state,
        }
    }

    /// Begins a file. `file_bytes` is its size, where it is known.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file before it is incomplete.
    pub fn begin_file(&mut self, file: &str, file_bytes: Option<u64>) -> Result<()> {
        self.end_file()?;
        self.file = file.to_string();
        self.file_bytes = file_bytes;
        self.state = State::Header(Vec::new());
        Ok(())
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names file and tensor, as soon as the bytes contradict the format or the model.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Idle => return Err(Error::InvalidState("bytes before `begin_file`".into())),
                State::End => {
                    let found = format!("{} bytes more", bytes.len());
                    return Err(Error::file(&self.file, "an end after the last tensor", found));
                }
                State::Header(_) => self.write_header(bytes)?,
                State::Body { .. } => self.write_body(bytes)?,
            };
        }
        Ok(())
    }

    /// Ends the last file and gives the sink back.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is incomplete or a tensor is missing.
    pub fn finish(mut self) -> Result<S> {
        self.end_file()?;
        if let Some((name, shape)) = self.awaited.iter().min() {
            let found = match self.awaited.len() {
                1 => "no such tensor".to_string(),
                n => format!("neither it nor {} others", n - 1),
            };
            return Err(Error::tensor(&self.file, name, format!("{shape:?}"), found));
        }
        if self.head_hash.is_some() && self.head_hash != self.wte_hash {
            // transformers does not tie what differs; neither is it ours to throw one of the two away
            let expected = "false, since lm_head.weight and wte.weight differ";
            return Err(Error::unsupported("tie_word_embeddings", expected, "true"));
        }
        Ok(self.sink)
    }

    fn end_file(&mut self) -> Result<()> {
        let found = match &self.state {
            State::Idle | State::End => {
                self.state = State::Idle;
                return Ok(());
            }
            State::Header(held) => format!("an end after {} bytes", held.len()),
            State::Body { rest, n_read, .. } => {
                let expected = format!("{} bytes", rest[0].end - rest[0].begin);
                let found = format!("the end of the file after {n_read}");
                return Err(Error::tensor(&self.file, &rest[0].name, expected, found));
            }
        };
        Err(Error::file(&self.file, "a whole safetensors header", found))
    }

    /// Takes what belongs to the header. → what is left
    fn write_header<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8]> {
        let State::Header(held) = &mut self.state else { return Ok(bytes) };
        bytes = fill(held, bytes, PREFIX_BYTES);
        let Some(prefix) = held.first_chunk::<PREFIX_BYTES>() else { return Ok(bytes) };
        let n_json = Header::json_bytes(*prefix, &self.file, self.file_bytes)?;
        bytes = fill(held, bytes, PREFIX_BYTES + n_json);
        if held.len() == PREFIX_BYTES + n_json {
            let header = Header::from_json(&held[PREFIX_BYTES..], &self.file, self.file_bytes)?;
            for tensor in &header.tensors {
                self.check(tensor)?;
            }
            self.begin_tensor(header.tensors.into())?;
        }
        Ok(bytes)
    }

    /// Whether the model can use this tensor: name, shape and format, before its bytes are read.
    fn check(&mut self, tensor: &TensorInfo) -> Result<()> {
        let name = names::canonical(&tensor.name);
        let tied_shape = vec![self.config.vocab_size, self.config.n_embd];
        let expected = if is_tied_head(&self.config, name) { Some(&tied_shape) } else { self.awaited.get(name) };
        let Some(expected) = expected else {
            return match names::is_buffer(name) {
                true => Ok(()),
                false if self.seen.contains(name) => {
                    Err(Error::tensor(&self.file, name, "each tensor once", "it a second time"))
                }
                false => {
                    let expected = "only tensors that config.json accounts for";
                    Err(Error::tensor(
                        &self.file,
                        excerpt(name),
                        expected,
                        format!("{} {:?}", tensor.dtype, tensor.shape),
                    ))
                }
            };
        };
        if *expected != tensor.shape {
            return Err(Error::tensor(&self.file, name, format!("{expected:?}"), format!("{:?}", tensor.shape)));
        }
        if StoredDtype::from_name(&tensor.dtype).is_none() {
            return Err(Error::tensor(&self.file, name, "F32, F16 or BF16", &tensor.dtype));
        }
        if !self.seen.insert(name.to_string()) {
            return Err(Error::tensor(&self.file, name, "each tensor once", "it a second time"));
        }
        Ok(())
    }

    /// What becomes of a tensor's bytes.
    fn use_of(&self, tensor: &TensorInfo) -> Use {
        let name = names::canonical(&tensor.name);
        match StoredDtype::from_name(&tensor.dtype) {
            Some(dtype) if is_tied_head(&self.config, name) => Use::Compare(dtype),
            Some(dtype) if self.awaited.contains_key(name) => Use::Keep(dtype),
            _ => Use::PassBy,
        }
    }

    /// Takes what belongs to the current tensor. → what is left
    fn write_body<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let State::Body { rest, .. } = &self.state else { return Ok(bytes) };
        let purpose = self.use_of(&rest[0]);
        let State::Body { rest, n_read, part } = &mut self.state else { return Ok(bytes) };
        let n_left = rest[0].end - rest[0].begin - *n_read;
        let (taken, left) = bytes.split_at(usize::try_from(n_left).unwrap_or(usize::MAX).min(bytes.len()));
        *n_read += taken.len() as u64;
        let is_whole = taken.len() as u64 == n_left;
        let name = names::canonical(&rest[0].name);
        match purpose {
            Use::PassBy => {}
            Use::Compare(dtype) => self.head_hash = Some(fingerprint(self.head_hash, &part.numbers(dtype, taken))),
            Use::Keep(dtype) => {
                let in_file = |error: Error| match error {
                    Error::Checkpoint { tensor: None, expected, found, .. } => {
                        Error::tensor(&self.file, name, expected, found)
                    }
                    other => other,
                };
                let values = part.numbers(dtype, taken);
                if self.config.tie_word_embeddings && name == "wte.weight" {
                    self.wte_hash = Some(fingerprint(self.wte_hash, &values));
                }
                self.sink.values(&values).map_err(in_file)?;
                if is_whole {
                    self.sink.end().map_err(in_file)?;
                    self.awaited.remove(name);
                }
            }
        }
        if is_whole {
            rest.pop_front();
            let rest = std::mem::take(rest);
            self.begin_tensor(rest)?;
        }
        Ok(left)
    }

    /// Goes on to the first tensor of `rest` that has bytes at all.
    fn begin_tensor(&mut self, mut rest: VecDeque<TensorInfo>) -> Result<()> {
        while rest.front().is_some_and(|t| t.begin == t.end) {
            rest.pop_front();
        }
        if let Some(tensor) = rest.front().filter(|t| matches!(self.use_of(t), Use::Keep(_))) {
            self.sink.begin(names::canonical(&tensor.name), &tensor.shape)?;
        }
        self.state = match rest.is_empty() {
            true => State::End,
            false => State::Body { rest, n_read: 0, part: Part::default() },
        };
        Ok(())
    }
}

/// What becomes of a tensor's bytes.
enum Use {
    /// They are one of the model's tensors.
    Keep(StoredDtype),
    /// They must be those of `wte.weight`.
    Compare(StoredDtype),
    /// They hold no parameter.
    PassBy,
}

/// The first bytes of a number whose last ones have not come yet.
#[derive(Debug, Default)]
struct Part(Vec<u8>);

impl Part {
    /// The numbers that are whole with these bytes.
    fn numbers(&mut self, dtype: StoredDtype, mut bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(bytes.len() / dtype.n_bytes() + 1);
        if !self.0.is_empty() {
            bytes = fill(&mut self.0, bytes, dtype.n_bytes());
            if self.0.len() == dtype.n_bytes() {
                dtype.extend_f32(&mut values, &self.0);
                self.0.clear();
            }
        }
        let (numbers, part) = bytes.split_at(bytes.len() - bytes.len() % dtype.n_bytes());
        dtype.extend_f32(&mut values, numbers);
        self.0.extend_from_slice(part);
        values
    }
}

/// Whether this tensor is the head of a model whose head is `wte` itself.
fn is_tied_head(config: &Config, name: &str) -> bool {
    config.tie_word_embeddings && name == "lm_head.weight"
}

/// FNV-1a over the numbers' bits, to be gone on with piece by piece.
fn fingerprint(so_far: Option<u64>, values: &[f32]) -> u64 {
    let step = |hash: u64, x: &f32| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3);
    values.iter().fold(so_far.unwrap_or(0xcbf2_9ce4_8422_2325), step)
}

/// Moves bytes over until `held` has `n` of them. → what is left
fn fill<'a>(held: &mut Vec<u8>, bytes: &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(bytes.len().min(n.saturating_sub(held.len())));
    held.extend_from_slice(taken);
    rest
}

#[cfg(test)]
mod tests {
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
        stream.finish()
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
            let error = read(&other, piece).unwrap_err().to_string();
            assert!(error.contains("tie_word_embeddings"), "{error}");
        }
        let wrong_shape = checkpoint(&config(), |t| t.push(("lm_head.weight".into(), vec![2, 2])));
        assert!(read(&wrong_shape, 9).unwrap_err().to_string().contains("lm_head.weight"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |bytes: &[u8], words: &[&str]| {
            let error = read(bytes, 16).unwrap_err().to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{error} lacks one of {words:?}");
        };
        let whole = checkpoint(&config(), |_| ());
        check(&checkpoint(&config(), |t| drop(t.remove(3))), &["h.0.ln_1.bias", "[2]", "no such tensor"]);
        check(&checkpoint(&config(), |t| t[0].1 = vec![2, 3]), &["wte.weight", "expected [3, 2], found [2, 3]"]);
        check(&checkpoint(&config(), |t| t.push(("h.1.ln_1.bias".into(), vec![2]))), &["h.1.ln_1.bias", "config.json"]);
        check(
            &checkpoint(&config(), |t| t.push(("transformer.wte.weight".into(), vec![3, 2]))),
            &["wte.weight", "second time"],
        );
        check(&[whole.as_slice(), b"x"].concat(), &["found", "bytes"]);
        check(&whole[..4], &["header"]);
        let mut stream = CheckpointReader::new(config(), Kept::default());
        stream.begin_file("model.safetensors", None).unwrap();
        stream.write(&whole[..whole.len() - 1]).unwrap();
        let error = stream.finish().unwrap_err().to_string();
        assert!(error.contains("ln_f.bias") && error.contains("after 7"), "{error}");
    }
}
