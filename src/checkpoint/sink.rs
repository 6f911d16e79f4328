//! Where a checkpoint's tensors go.

use crate::error::Result;

/// Where a checkpoint's tensors go: one after the other, in the file's order, each with a name and a shape that the
/// model expects.
pub trait TensorSink {
    /// Begins a tensor of f32 values, row-major.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if there is no room for it.
    fn begin(&mut self, name: &str, shape: &[usize]) -> Result<()>;

    /// Takes its next values.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] for values that cannot be used; the file is the caller's to name.
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
