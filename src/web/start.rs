//! What runs when the module is instantiated.

use std::sync::Once;

use wasm_bindgen::prelude::*;

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
