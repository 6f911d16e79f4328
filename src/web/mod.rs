//! The surface for JavaScript: translates, and nothing else. JavaScript pulls; Rust never calls back into the page.

mod kernels;
mod loader;
mod model;
mod pipelines;
mod session;

use std::cell::Cell;
use std::sync::Once;

use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::prelude::*;

pub use kernels::{KernelModule, Module};
pub use loader::{Compiling, Loader, destroy_gpu, packed_name, shard_names};
pub use model::Model;
pub use session::{Scorer, Session};

use crate::engine::Any;
use crate::error::Error;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs when the module is instantiated; has no effect after the first time.
#[wasm_bindgen(start)]
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the linker makes this function, and `ONCE` sees to it that it runs once. Unless it is called here,
        // wasm-ld wraps every export in a call of it, which made each call 100 times slower.
        unsafe { __wasm_call_ctors() };
        console_error_panic_hook::set_once();
    });
}

type JsResult<T> = std::result::Result<T, JsValue>;

/// What runs a page's model.
type Engine = Any<Module>;

impl From<Error> for JsValue {
    /// A JavaScript `Error` with `code` and the details as properties.
    fn from(error: Error) -> Self {
        let js = js_sys::Error::new(&error.to_string());
        let mut properties = vec![("code", error.code().to_string())];
        match error {
            Error::UnsupportedModel { field, expected, found } => {
                properties.extend([("field", field), ("expected", expected), ("found", found)]);
            }
            Error::Checkpoint { file, tensor, expected, found } => {
                properties.extend([("file", file), ("expected", expected), ("found", found)]);
                properties.extend(tensor.map(|tensor| ("tensor", tensor)));
            }
            Error::InvalidOption { option, expected, found } => {
                properties.extend([("option", option), ("expected", expected), ("found", found)]);
            }
            Error::ContextWindow { n_ctx, found } => {
                properties.extend([("expected", n_ctx.to_string()), ("found", found)]);
            }
            Error::OutOfMemory { what, n_bytes } => {
                properties.extend([("what", what), ("n_bytes", n_bytes.to_string())]);
            }
            Error::WebGpuNotAvailable(_)
            | Error::DeviceLost(_)
            | Error::InvalidLogits(_)
            | Error::Interrupted
            | Error::InvalidState(_) => {}
        }
        for (name, value) in properties {
            set(&js, name, &value.into());
        }
        js.into()
    }
}

/// Sets a property of an object that we made ourselves, which cannot fail.
fn set(object: &JsValue, name: &str, value: &JsValue) {
    let is_set = Reflect::set(object, &name.into(), value);
    debug_assert!(is_set.is_ok());
}

/// Rust values as plain JavaScript objects.
fn to_js<T: Serialize>(value: &T) -> JsResult<JsValue> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

fn take<T>(cell: &Cell<Option<T>>) -> JsResult<T> {
    cell.take().ok_or_else(|| Error::InvalidState("another call is still running".into()).into())
}

/// The page's clock, from a worker or a window.
fn now_ms() -> f64 {
    let global = js_sys::global();
    let performance = match global.dyn_ref::<web_sys::WorkerGlobalScope>() {
        Some(worker) => worker.performance(),
        None => global.dyn_ref::<web_sys::Window>().and_then(web_sys::Window::performance),
    };
    performance.map_or_else(js_sys::Date::now, |performance| performance.now())
}
