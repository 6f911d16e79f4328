//! The surface for JavaScript: translates, and nothing else. JavaScript pulls; Rust calls back only to tell of a panic.

mod kernels;
mod loader;
mod model;
mod pipelines;
mod session;

use std::cell::{Cell, RefCell};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use js_sys::{Function, Reflect};
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
        panic::set_hook(Box::new(tell_panic));
    });
}

thread_local! {
    /// Who is told of a panic, besides the console.
    static PANIC_LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `callback` with the message of each panic, in place of the callback of an earlier call.
///
/// A panic leaves the module unusable and the promise that it happened in pending for ever, so that JavaScript hears of
/// it in no other way.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(#[wasm_bindgen(unchecked_param_type = "(message: string) => void")] callback: Function) {
    PANIC_LISTENER.set(Some(callback));
}

fn tell_panic(info: &PanicHookInfo<'_>) {
    console_error_panic_hook::hook(info);
    if let Some(listener) = PANIC_LISTENER.with_borrow(Option::clone) {
        // The console has the message already, and nothing can be done about a listener that throws.
        let _ = listener.call1(&JsValue::NULL, &info.to_string().into());
    }
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
