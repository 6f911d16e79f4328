//! What runs when the module is instantiated, and what tells JavaScript of a panic.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use js_sys::Function;
use wasm_bindgen::prelude::*;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs when the module is instantiated. Has no effect after the first time.
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
    /// The callback that is told of a panic, besides the console.
    static PANIC_LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `callback` with the message of each panic, in place of the callback of an earlier call.
///
/// A panic leaves the module unusable, and the promise in which it happened stays pending for ever, so JavaScript
/// learns of it in no other way.
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
