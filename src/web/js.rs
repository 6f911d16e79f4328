//! What every export needs: errors and values as JavaScript's own, and the page's clock.

use std::cell::Cell;

use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::error::Error;

pub(super) type JsResult<T> = std::result::Result<T, JsValue>;

impl From<Error> for JsValue {
    /// A JavaScript `Error` with `code` and the details as properties.
    fn from(error: Error) -> Self {
        let js = js_sys::Error::new(&error.to_string());
        let mut properties = vec![("code", error.code().to_string())];
        match error {
            Error::UnsupportedModel { file, field, expected, found } => {
                properties.extend([("file", file), ("field", field), ("expected", expected), ("found", found)]);
            }
            Error::Checkpoint { file, tensor, expected, found } => {
                properties.extend([("file", file), ("expected", expected), ("found", found)]);
                properties.extend(tensor.map(|tensor| ("tensor", tensor)));
            }
            Error::UntiedHead { file } => properties.push(("file", file)),
            Error::InvalidOption { option, expected, found } => {
                properties.extend([("option", option), ("expected", expected), ("found", found)]);
            }
            Error::ContextWindow { n_ctx, found } => {
                properties.extend([("expected", n_ctx.to_string()), ("found", found)]);
            }
            Error::OutOfMemory { what, n_bytes } => {
                properties.extend([("device", "wasm".into()), ("what", what), ("n_bytes", n_bytes.to_string())]);
            }
            Error::GpuOutOfMemory { what, n_bytes } => {
                properties.extend([("device", "webgpu".into()), ("what", what), ("n_bytes", n_bytes.to_string())]);
            }
            Error::ModelTooLarge { dtype, n_bytes, .. } => {
                let what = format!("the model in {dtype}");
                properties.extend([("device", "wasm".into()), ("what", what), ("n_bytes", n_bytes.to_string())]);
            }
            Error::WebGpuNotAvailable(_)
            | Error::DeviceLost(_)
            | Error::InvalidLogits(_)
            | Error::Interrupted
            | Error::NotInThisBuild(_)
            | Error::InvalidState(_) => {}
        }
        for (name, value) in properties {
            set(&js, name, &value.into());
        }
        js.into()
    }
}

/// Sets a property of an object that we made ourselves, which cannot fail.
pub(super) fn set(object: &JsValue, name: &str, value: &JsValue) {
    let is_set = Reflect::set(object, &name.into(), value);
    debug_assert!(is_set.is_ok());
}

/// Rust values as plain JavaScript objects.
pub(super) fn to_js<T: Serialize>(value: &T) -> JsResult<JsValue> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

pub(super) fn take<T>(cell: &Cell<Option<T>>) -> JsResult<T> {
    cell.take().ok_or_else(|| Error::InvalidState("another call is still running".into()).into())
}

/// The page's clock, from a worker or a window.
pub(super) fn now_ms() -> f64 {
    let global = js_sys::global();
    let performance = match global.dyn_ref::<web_sys::WorkerGlobalScope>() {
        Some(worker) => worker.performance(),
        None => global.dyn_ref::<web_sys::Window>().and_then(web_sys::Window::performance),
    };
    performance.map_or_else(js_sys::Date::now, |performance| performance.now())
}
