//! A file of `torch.save` since PyTorch 1.6: a zip archive of stored entries, read from its front as it arrives.
//!
//! What PyTorch writes in front of an entry tells no size; that follows the entry's bytes. A pickle ends where it says so,
//! a storage has the size that the pickle tells, and of all others the end is looked for.
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>

use std::collections::HashMap;

use super::pickle::Pickle;
use super::state_dict::StateDict;
use super::storages::Storages;
use super::zip_directory::DirectoryTail;
use super::zip_record::{Descriptor, LocalHeader, descriptor, find_descriptor};
use crate::checkpoint::tensor_file::{ModelTensors, TensorFile, fill};
use crate::error::{Error, Result, excerpt};

/// A file that is being read.
#[derive(Debug)]
pub(in crate::checkpoint) struct ZipFile {
    file: String,
    /// The folder in the archive that all entries are in, with its slash; the first entry's.
    root: Option<String>,
    first_entry: String,
    storages: Option<Storages>,
    /// Storages that came before the pickle, by key.
    early: HashMap<String, Vec<u8>>,
    is_big_endian: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Gathers what stands in front of an entry.
    Header(Vec<u8>),
    Entry(Entry),
    /// Gathers what stands behind an entry of `n_bytes`.
    Descriptor {
        held: Vec<u8>,
        n_bytes: u64,
    },
    /// The archive's own list of its entries: we have seen them, but a file that is cut within it is not whole.
    Directory(DirectoryTail),
}

#[derive(Debug)]
struct Entry {
    name: String,
    content: Content,
    /// Its size, where something tells it in advance.
    n_bytes: Option<u64>,
    n_read: u64,
    /// Whether its size follows it.
    has_descriptor: bool,
    /// Bytes that may be the beginning of what stands behind it.
    held: Vec<u8>,
}

/// What an entry is to us.
#[derive(Debug)]
enum Content {
    Pickle(Box<Pickle>),
    /// A storage's place.
    Storage(usize),
    /// A storage's key, and its bytes: the pickle has not come yet.
    Early(String, Vec<u8>),
    /// `little` or `big`.
    ByteOrder(Vec<u8>),
    Other,
}

impl ZipFile {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_string(),
            root: None,
            first_entry: String::new(),
            storages: None,
            early: HashMap::new(),
            is_big_endian: false,
            state: State::Header(Vec::new()),
        }
    }

    fn write_header(&mut self, bytes: &[u8]) -> Result<usize> {
        let State::Header(held) = &mut self.state else { return Ok(0) };
        let mut n_taken = fill(held, bytes, 4);
        match held.as_slice() {
            b"PK\x03\x04" | [_, _, _, _, _, ..] => {}
            b"PK\x01\x02" | b"PK\x05\x06" | b"PK\x06\x06" | b"PK\x06\x07" => {
                let mut tail = DirectoryTail::default();
                tail.write(held);
                self.state = State::Directory(tail);
                return Ok(n_taken);
            }
            // the second half of an empty entry's size: eight zeros where four would do
            [0, 0, 0, 0] => {
                held.clear();
                return Ok(n_taken);
            }
            [_, _, _, _] => {
                let found = format!("the bytes {held:02x?}");
                return Err(Error::file(&self.file, "another entry of the zip archive", found));
            }
            _ => return Ok(n_taken),
        }
        n_taken += fill(held, &bytes[n_taken..], LocalHeader::N_FIXED);
        let Some(n) = LocalHeader::n_bytes(held) else { return Ok(n_taken) };
        n_taken += fill(held, &bytes[n_taken..], n);
        if held.len() == n {
            let header = LocalHeader::new(held, &self.file)?;
            self.begin_entry(header)?;
        }
        Ok(n_taken)
    }

    fn begin_entry(&mut self, header: LocalHeader) -> Result<()> {
        if self.root.is_none() {
            let end = header.name.find('/').map_or(0, |slash| slash + 1);
            self.root = Some(header.name[..end].to_string());
            self.first_entry = excerpt(&header.name);
        }
        let name = header.name.strip_prefix(self.root.as_deref().unwrap_or_default()).unwrap_or(&header.name);
        let mut n_bytes = header.n_bytes;
        let content = match (name, name.strip_prefix("data/"), &self.storages) {
            ("data.pkl", _, None) => Content::Pickle(Box::new(Pickle::new(&self.file))),
            ("data.pkl", _, Some(_)) => return Err(Error::file(&self.file, "one data.pkl", "another one")),
            ("byteorder", ..) => Content::ByteOrder(Vec::new()),
            ("constants.pkl", ..) => {
                let found = "a TorchScript archive (torch.jit.save)";
                return Err(Error::file(&self.file, "a state dict of torch.save", found));
            }
            (_, Some(key), None) => Content::Early(key.to_string(), Vec::new()),
            (_, Some(key), Some(storages)) => match storages.find(key) {
                Some((place, expected)) if n_bytes.is_none_or(|n| n == expected) => {
                    n_bytes = Some(expected);
                    Content::Storage(place)
                }
                Some((place, _)) => return Err(storages.wrong_size(place, n_bytes.unwrap_or_default())),
                None => Content::Other,
            },
            _ => Content::Other,
        };
        let can_be_skipped = matches!(content, Content::Other) && n_bytes.is_some();
        if !header.is_stored && !can_be_skipped {
            let found = format!("`{}` compressed (load it with PyTorch and save it again)", excerpt(&header.name));
            return Err(Error::file(&self.file, "entries that are stored as they are", found));
        }
        if let (Content::Storage(place), Some(storages)) = (&content, &mut self.storages) {
            storages.begin(*place)?;
        }
        let name = excerpt(&header.name);
        let has_descriptor = header.has_descriptor;
        self.state = State::Entry(Entry { name, content, n_bytes, n_read: 0, has_descriptor, held: Vec::new() });
        Ok(())
    }

    fn write_entry(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        let State::Entry(mut entry) = std::mem::replace(&mut self.state, State::Header(Vec::new())) else {
            return Ok(0);
        };
        let (n_taken, is_whole) = match (&mut entry.content, entry.n_bytes) {
            (Content::Pickle(pickle), n_bytes) => {
                let (n, top) = pickle.write(bytes)?;
                entry.n_read += n as u64;
                if let Some(top) = top {
                    let pickle = std::mem::replace(&mut **pickle, Pickle::new(""));
                    let state_dict = StateDict::new(pickle, top, &self.file)?;
                    let mut storages = Storages::new(state_dict, &self.file, model)?;
                    storages.is_big_endian = self.is_big_endian;
                    self.storages = Some(storages);
                }
                if n_bytes.is_some_and(|n| entry.n_read > n || top.is_some() && entry.n_read < n) {
                    let found = format!("a pickle of {} bytes or more", entry.n_read);
                    return Err(Error::file(&self.file, format!("{n_bytes:?} bytes in {}", entry.name), found));
                }
                (n, top.is_some())
            }
            (_, Some(n_bytes)) => {
                let n_left = n_bytes - entry.n_read;
                let n = usize::try_from(n_left).unwrap_or(usize::MAX).min(bytes.len());
                entry.n_read += n as u64;
                self.take(&mut entry, &bytes[..n], model)?;
                (n, entry.n_read == n_bytes)
            }
            (_, None) => {
                let mut held = std::mem::take(&mut entry.held);
                held.extend_from_slice(bytes);
                let found = find_descriptor(&held, entry.n_read);
                entry.n_read += found.at as u64;
                self.take(&mut entry, &held[..found.at], model)?;
                if let Some(n_descriptor) = found.n_descriptor {
                    let n_left = held.len() - found.at - n_descriptor;
                    self.end_entry(entry, model)?;
                    self.state = State::Header(Vec::new());
                    return Ok(bytes.len() - n_left);
                }
                entry.held = held.split_off(found.at);
                (bytes.len(), false)
            }
        };
        if !is_whole {
            self.state = State::Entry(entry);
            return Ok(n_taken);
        }
        self.state = match entry.has_descriptor {
            true => State::Descriptor { held: Vec::new(), n_bytes: entry.n_read },
            false => State::Header(Vec::new()),
        };
        self.end_entry(entry, model)?;
        Ok(n_taken)
    }

    /// Some of an entry's bytes.
    fn take(&mut self, entry: &mut Entry, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<()> {
        match (&mut entry.content, &mut self.storages) {
            (Content::Storage(_), Some(storages)) => storages.write(bytes, model),
            (Content::Early(key, held), _) => {
                held.try_reserve(bytes.len()).map_err(|_| Error::OutOfMemory {
                    what: format!("the storage {} of {}, which comes before data.pkl", excerpt(key), self.file),
                    n_bytes: (held.len() + bytes.len()) as u64,
                })?;
                held.extend_from_slice(bytes);
                Ok(())
            }
            (Content::ByteOrder(held), _) => {
                fill(held, bytes, 16);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An entry has no more bytes.
    fn end_entry(&mut self, entry: Entry, model: &mut dyn ModelTensors) -> Result<()> {
        match (entry.content, &mut self.storages) {
            (Content::Storage(_), Some(storages)) => storages.end(model)?,
            (Content::Early(key, bytes), _) => drop(self.early.insert(key, bytes)),
            (Content::Pickle(_), Some(storages)) => {
                for (key, bytes) in std::mem::take(&mut self.early) {
                    let Some((place, n_bytes)) = storages.find(&key) else { continue };
                    if n_bytes != bytes.len() as u64 {
                        return Err(storages.wrong_size(place, bytes.len() as u64));
                    }
                    storages.begin(place)?;
                    storages.write(&bytes, model)?;
                    storages.end(model)?;
                }
            }
            (Content::ByteOrder(word), storages) => {
                self.is_big_endian = match word.trim_ascii() {
                    b"little" => false,
                    b"big" => true,
                    other => {
                        let found = String::from_utf8_lossy(other).into_owned();
                        return Err(Error::file(&self.file, "a byte order that is little or big", found));
                    }
                };
                if let Some(storages) = storages {
                    if self.is_big_endian && storages.has_begun() {
                        return Err(Error::file(&self.file, "the byte order before the storages", "it behind one"));
                    }
                    storages.is_big_endian = self.is_big_endian;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn write_descriptor(&mut self, bytes: &[u8]) -> Result<usize> {
        let State::Descriptor { held, n_bytes } = &mut self.state else { return Ok(0) };
        let mut n_taken = 0;
        loop {
            match descriptor(held, *n_bytes) {
                Descriptor::Whole(_) => {
                    self.state = State::Header(Vec::new());
                    return Ok(n_taken);
                }
                Descriptor::None => {
                    let found = format!("the bytes {held:02x?}");
                    return Err(Error::file(&self.file, format!("an end of the entry after {n_bytes} bytes"), found));
                }
                Descriptor::Incomplete(_) if n_taken == bytes.len() => return Ok(n_taken),
                Descriptor::Incomplete(n) => n_taken += fill(held, &bytes[n_taken..], n),
            }
        }
    }
}

impl TensorFile for ZipFile {
    fn write(&mut self, bytes: &[u8], model: &mut dyn ModelTensors) -> Result<usize> {
        match &mut self.state {
            State::Header(_) => self.write_header(bytes),
            State::Entry(_) => self.write_entry(bytes, model),
            State::Descriptor { .. } => self.write_descriptor(bytes),
            State::Directory(tail) => {
                tail.write(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        let found = match &self.state {
            State::Directory(tail) if !tail.is_whole() => "the end of the file within its directory".to_string(),
            State::Directory(_) => match &self.storages {
                Some(storages) => return storages.finish(),
                None => {
                    let found = format!("a zip archive that begins with `{}`", self.first_entry);
                    return Err(Error::file(&self.file, "an archive of torch.save, with data.pkl", found));
                }
            },
            State::Entry(entry) => format!("the end of the file after {} bytes of `{}`", entry.n_read, entry.name),
            State::Header(_) | State::Descriptor { .. } => "the end of the file behind an entry".to_string(),
        };
        Err(Error::file(&self.file, "a whole zip archive", found))
    }
}
