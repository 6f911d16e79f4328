//! Which of a file's tensors the model takes, whatever the file's format: names, shapes, what may be missing and what is
//! left out.

use std::collections::{BTreeMap, HashSet};

use super::config::Config;
use super::names;
use super::sink::TensorSink;
use super::stored_dtype::StoredDtype;
use super::tensor_file::{ListedTensor, ModelTensors};
use crate::error::{Error, Result, excerpt};

const EMBEDDING: &str = "wte.weight";
const HEAD: &str = "lm_head.weight";

/// Takes the tensors of one or more files and passes those of the model on.
#[derive(Debug)]
pub(super) struct Intake<S> {
    config: Config,
    sink: S,
    /// Shapes of the tensors still to come.
    awaited: BTreeMap<String, Vec<usize>>,
    seen: HashSet<String>,
    /// Of a tied model: what was taken as the embedding, and the other of the pair, which has to be the same.
    taken: Option<u64>,
    compared: Option<u64>,
    /// The file that holds the head, if one does.
    head_file: Option<String>,
    left_out: Vec<String>,
    warnings: Vec<String>,
    file: String,
    /// What becomes of the file's tensors, in the order of its list.
    uses: Vec<Use>,
    current: usize,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq)]
enum Use {
    /// It is the model's tensor of that name.
    Keep(String),
    /// It must have the numbers of the other one of a tied pair.
    Compare,
    /// It holds no parameter, or none that generation uses.
    LeaveOut,
}

impl<S: TensorSink> Intake<S> {
    pub fn new(config: Config, sink: S) -> Self {
        let awaited = names::expected_tensors(&config).into_iter().collect();
        Self {
            config,
            sink,
            awaited,
            seen: HashSet::new(),
            taken: None,
            compared: None,
            head_file: None,
            left_out: Vec::new(),
            warnings: Vec::new(),
            file: String::new(),
            uses: Vec::new(),
            current: 0,
        }
    }

    /// What follows is of this file.
    pub fn begin_file(&mut self, file: &str) {
        self.file = file.to_string();
        self.uses.clear();
    }

    /// All files have been read. → the sink, and what the user should know
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if a tensor is missing that does not count as zeros; [`Error::UntiedHead`].
    pub fn finish(mut self) -> Result<(S, Vec<String>)> {
        let is_bias = |name: &str| name.ends_with(".bias");
        let missing: Vec<_> = self.awaited.iter().filter(|(name, _)| !is_bias(name)).collect();
        if let Some((name, shape)) = missing.first() {
            let found = match missing.len() {
                1 => "no such tensor".to_string(),
                n => format!("neither it nor {} others", n - 1),
            };
            return Err(Error::tensor(&self.file, name.as_str(), format!("{shape:?}"), found));
        }
        if self.taken.is_some() && self.compared.is_some_and(|hash| Some(hash) != self.taken) {
            return Err(Error::UntiedHead { file: self.head_file.unwrap_or(self.file) });
        }
        if !self.awaited.is_empty() {
            let names: Vec<_> = self.awaited.keys().map(String::as_str).collect();
            self.warnings.push(format!("{}: missing, so they count as zeros: {}", self.file, some_of(&names)));
            for (name, shape) in std::mem::take(&mut self.awaited) {
                self.sink.begin(&name, &shape)?;
                self.sink.values(&vec![0.0; shape.iter().product()])?;
                self.sink.end()?;
            }
        }
        if !self.left_out.is_empty() {
            let names: Vec<_> = self.left_out.iter().map(String::as_str).collect();
            self.warnings.push(format!(
                "{}: left out, since generation does not use them: {}",
                self.file,
                some_of(&names)
            ));
        }
        Ok((self.sink, self.warnings))
    }

    /// Whether the model can use this tensor: name, shape and format. → under which name it is taken
    fn check(&mut self, tensor: &ListedTensor) -> Result<Option<String>> {
        let name = names::canonical(&tensor.name);
        let tied_shape = vec![self.config.vocab_size, self.config.n_embd];
        let is_of_tied_pair = self.config.tie_word_embeddings && (name == HEAD || name == EMBEDDING);
        let expected = if is_of_tied_pair { Some(&tied_shape) } else { self.awaited.get(name) };
        let Some(expected) = expected else { return self.check_unknown(tensor, name).map(|()| None) };
        let wrong = |expected: String, found: String| Err(Error::tensor(&self.file, name, expected, found));
        if is_quantised(&tensor.dtype) {
            return wrong(StoredDtype::NAMES.into(), format!("{}: the checkpoint is quantised", tensor.dtype));
        }
        if *expected != tensor.shape {
            let is_transposed = tensor.shape.len() == 2 && tensor.shape.iter().eq(expected.iter().rev());
            let hint = if is_transposed { ", which is transposed (nn.Linear in the place of Conv1D)" } else { "" };
            return wrong(format!("{expected:?}"), format!("{:?}{hint}", tensor.shape));
        }
        if StoredDtype::from_name(&tensor.dtype).is_none() {
            return wrong(StoredDtype::NAMES.into(), tensor.dtype.clone());
        }
        if !self.seen.insert(name.to_string()) {
            return wrong("each tensor once".into(), "it a second time".into());
        }
        Ok(Some(name.to_string()))
    }

    /// What is no tensor of the model: a buffer, a head of another task, or a reason not to trust the file.
    fn check_unknown(&mut self, tensor: &ListedTensor, name: &str) -> Result<()> {
        let wrong = |expected: &str, found: String| Err(Error::tensor(&self.file, excerpt(name), expected, found));
        let what = format!("{} {:?}", tensor.dtype, tensor.shape);
        if names::is_buffer(name) {
            return Ok(());
        }
        if names::is_of_quantised(name) {
            return wrong("the checkpoint before it was quantised", format!("{what} of a quantised one"));
        }
        if self.seen.contains(name) {
            return wrong("each tensor once", "it a second time".into());
        }
        if name.contains(".lora_") {
            return wrong("a whole model", format!("{what} of a LoRA adapter (merge it into its model first)"));
        }
        if names::is_in_block(name) {
            return wrong("only tensors that config.json accounts for", what);
        }
        self.left_out.push(excerpt(&tensor.name));
        Ok(())
    }

    /// Settles which one of a tied pair is taken. The other one is compared with it, or left out if it is the same memory.
    fn tie(&mut self, tensors: &[ListedTensor]) {
        let place = |name: &str| self.uses.iter().position(|u| matches!(u, Use::Keep(kept) if kept == name));
        let (embedding, head) = (place(EMBEDDING), place(HEAD));
        if head.is_some() {
            self.head_file = Some(self.file.clone());
        }
        let is_taken = !self.awaited.contains_key(EMBEDDING);
        for (at, other) in [(embedding, None), (head, embedding)] {
            let Some(at) = at else { continue };
            let is_alias = other.is_some_and(|other| {
                tensors[at].same_as == Some(other)
                    || tensors[other].same_as == Some(at)
                    || (tensors[at].same_as.is_some() && tensors[at].same_as == tensors[other].same_as)
            });
            self.uses[at] = match other {
                _ if is_alias => Use::LeaveOut,
                None if !is_taken => Use::Keep(EMBEDDING.to_string()),
                _ => Use::Compare,
            };
        }
    }

    /// An error of the sink, which does not know where its numbers come from.
    fn in_file(&self, error: Error) -> Error {
        match (error, self.uses.get(self.current)) {
            (Error::Checkpoint { tensor: None, expected, found, .. }, Some(Use::Keep(name))) => {
                Error::tensor(&self.file, name, expected, found)
            }
            (other, _) => other,
        }
    }
}

impl<S: TensorSink> ModelTensors for Intake<S> {
    fn list(&mut self, tensors: &[ListedTensor]) -> Result<Vec<bool>> {
        self.uses.clear();
        for tensor in tensors {
            let name = self.check(tensor)?;
            self.uses.push(name.map_or(Use::LeaveOut, Use::Keep));
        }
        if self.config.tie_word_embeddings {
            self.tie(tensors);
        }
        Ok(self.uses.iter().map(|u| *u != Use::LeaveOut).collect())
    }

    fn begin(&mut self, tensor: usize) -> Result<()> {
        self.current = tensor;
        match &self.uses[tensor] {
            Use::Keep(name) => {
                let shape = self.awaited.get(name).cloned().unwrap_or_default();
                self.sink.begin(name, &shape).map_err(|e| self.in_file(e))
            }
            _ => Ok(()),
        }
    }

    fn values(&mut self, values: &[f32]) -> Result<()> {
        match &self.uses[self.current] {
            Use::Keep(name) => {
                if self.config.tie_word_embeddings && name == EMBEDDING {
                    self.taken = Some(fingerprint(self.taken, values));
                }
                self.sink.values(values).map_err(|e| self.in_file(e))
            }
            Use::Compare => {
                self.compared = Some(fingerprint(self.compared, values));
                Ok(())
            }
            Use::LeaveOut => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Use::Keep(name) = &self.uses[self.current] {
            self.awaited.remove(name);
            return self.sink.end().map_err(|e| self.in_file(e));
        }
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// Whether numbers of this format need scales that lie elsewhere.
fn is_quantised(dtype: &str) -> bool {
    matches!(dtype, "I8" | "U8" | "I4" | "U4" | "QI8" | "QU8" | "QI32")
        || dtype.starts_with("F8")
        || dtype.starts_with("F4")
}

/// The first few names, and how many more there are.
fn some_of(names: &[&str]) -> String {
    const MAX_NAMES: usize = 6;
    match names.len().checked_sub(MAX_NAMES) {
        None | Some(0) => names.join(", "),
        Some(n_more) => format!("{} and {n_more} more", names[..MAX_NAMES].join(", ")),
    }
}

/// FNV-1a over the numbers' bits, to be gone on with piece by piece. Both zeros are the same number.
fn fingerprint(so_far: Option<u64>, values: &[f32]) -> u64 {
    let step = |hash: u64, x: &f32| (hash ^ u64::from((x + 0.0).to_bits())).wrapping_mul(0x0100_0000_01b3);
    values.iter().fold(so_far.unwrap_or(0xcbf2_9ce4_8422_2325), step)
}
