//! Files of `torch.save`: a pickle that names tensors, and the bytes of the storages that they are views of.
//!
//! A pickle is a program, and Python's own reader lets it call anything. The one here knows the few things that a state
//! dict needs and refuses every other by its name.
//!
//! ```text
//! zip | legacy: which bytes are what    -> pickle: values -> state dict: names, views of storages
//!                                       -> storages: bytes as they arrive -> the tensors' numbers
//! ```

mod globals;
mod legacy;
mod opcodes;
mod pickle;
mod rebuild;
mod state_dict;
mod storages;
mod view;
mod zip;
mod zip_directory;
mod zip_record;

pub(super) use legacy::LegacyFile;
pub(super) use zip::ZipFile;
