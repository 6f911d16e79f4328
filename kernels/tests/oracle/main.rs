//! Every kernel against a naive oracle in f64, on nasty input: lengths off the lane width, zeros, extremes, NaN.
//! The same tests run natively and, as WebAssembly, in the browser.

mod attention;
mod company;
mod input;
mod pointwise;
mod products;
mod weights;

#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);
