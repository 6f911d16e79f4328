//! What the file formats and the model's checks say to each other: the list of a file's tensors before their bytes, then
//! the numbers of those that are wanted, one tensor at a time.

use crate::error::Result;

/// A tensor that a file says it has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListedTensor {
    /// Its name, as the file has it.
    pub name: String,
    /// Its number format, in the words of safetensors; which need not be one that we read.
    pub dtype: String,
    /// Its shape, outermost first.
    pub shape: Vec<usize>,
    /// The tensor of this list, in front of it, that is the same memory.
    pub same_as: Option<usize>,
}

/// A file of one format: it takes the bytes as they come and passes what they mean on.
pub(super) trait TensorFile {
    /// Takes bytes of the file. → how many of them; fewer than there are only where what follows is of another kind
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] as soon as the bytes contradict the format, and those of `model`.
    fn write(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize>;

    /// The file ends here.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] if it is incomplete.
    fn end(&mut self) -> Result<()>;
}

/// The model's side: what takes a file's tensors.
pub(super) trait ModelTensors {
    /// Takes the whole list, before any numbers. → for each, whether its numbers are wanted
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] that names a tensor that the model cannot use.
    fn list(&mut self, tensors: &[ListedTensor]) -> Result<Vec<bool>>;

    /// The numbers that follow are those of this tensor of the list, row-major.
    ///
    /// # Errors
    /// Those of the sink.
    fn begin(&mut self, tensor: usize) -> Result<()>;

    /// Its next numbers.
    ///
    /// # Errors
    /// Those of the sink.
    fn values(&mut self, values: &[f32]) -> Result<()>;

    /// It has no more.
    ///
    /// # Errors
    /// Those of the sink.
    fn end(&mut self) -> Result<()>;

    /// Tells the user of something that is left out or read differently.
    fn warn(&mut self, warning: String);
}

/// Moves bytes over until `held` has `n` of them. → how many
pub(super) fn fill(held: &mut Vec<u8>, bytes: &[u8], n: usize) -> usize {
    let n_taken = bytes.len().min(n.saturating_sub(held.len()));
    held.extend_from_slice(&bytes[..n_taken]);
    n_taken
}
