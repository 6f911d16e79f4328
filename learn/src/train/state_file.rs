//! The state of a run on disk: one file, whole or not at all, from which a run goes on to the bit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::checkpoint::write_whole;
use crate::train::State;
use crate::{Error, Result};

/// The least held-out loss so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// After so many steps.
    pub step: u64,
    /// Nats per token.
    pub loss: f64,
}

/// Where a run is.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    step: u64,
    best_step: Option<u64>,
    /// The bits, for a number in words may come back as another.
    best_loss_bits: Option<u64>,
}

const BUFFERS: [&str; 3] = ["params", "first", "second"];

/// Writes a run's state.
///
/// # Errors
/// What the system says.
pub fn write_state(path: &Path, state: &State, best: Option<Best>) -> Result<()> {
    let bytes = [&state.params, &state.first, &state.second]
        .map(|values| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    // one entry, for several would come in any order, and the same state is to be the same file
    let place = Place {
        step: state.step,
        best_step: best.map(|best| best.step),
        best_loss_bits: best.map(|best| best.loss.to_bits()),
    };
    let words = serde_json::to_string(&place).map_err(|e| Error::io(path)(e.into()))?;
    let words: HashMap<String, String> = [("place".to_string(), words)].into();
    let damaged = |e: safetensors::SafeTensorError| Error::file(path, "a state that can be written", e.to_string());
    let mut views = Vec::new();
    for (name, bytes) in BUFFERS.iter().zip(&bytes) {
        views.push((*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map_err(damaged)?));
    }
    write_whole(path, &serialize(views, Some(words)).map_err(damaged)?)
}

/// Reads a run's state of `n_params` parameters.
///
/// # Errors
/// [`Error::File`] for a file that is no such state.
pub fn read_state(path: &Path, n_params: usize) -> Result<(State, Option<Best>)> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let expected = || format!("the state of a run with {n_params} parameters");
    let damaged = |e: safetensors::SafeTensorError| Error::file(path, expected(), e.to_string());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut buffers = Vec::new();
    for name in BUFFERS {
        let view = file.tensor(name).map_err(damaged)?;
        if view.dtype() != Dtype::F32 || view.shape() != [n_params] {
            return Err(Error::file(path, expected(), format!("`{name}` of shape {:?}", view.shape())));
        }
        buffers.push(view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect());
    }
    let words = header.metadata().as_ref().and_then(|words| words.get("place"));
    let words = words.ok_or_else(|| Error::file(path, expected(), "no `place`"))?;
    let Place { step, best_step, best_loss_bits } =
        serde_json::from_str(words).map_err(|e| Error::file(path, expected(), e.to_string()))?;
    let best = best_step.zip(best_loss_bits).map(|(step, bits)| Best { step, loss: f64::from_bits(bits) });
    let [params, first, second] = buffers.try_into().unwrap_or_default();
    Ok((State { step, params, first, second }, best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let values = |seed: f32| vec![seed, -0.0, f32::MIN_POSITIVE / 2.0, 1.0 / 3.0];
        let state = State { step: 1 << 40, params: values(0.1), first: values(0.2), second: values(0.3) };
        let best = Some(Best { step: 7, loss: 1.0 / 3.0 });
        write_state(&path, &state, best).unwrap();
        let (found, found_best) = read_state(&path, 4).unwrap();
        assert_eq!((found.params[1].to_bits(), found_best), ((-0.0_f32).to_bits(), best));
        assert_eq!(found, state);
        assert!(matches!(read_state(&path, 5), Err(Error::File { .. })));
        fs::write(&path, b"12345678").unwrap();
        assert!(matches!(read_state(&path, 4), Err(Error::File { .. })));
    }
}
