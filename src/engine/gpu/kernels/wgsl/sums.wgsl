// Sums whose order is the same in every kernel, so that a number has the same bits however many tokens a pass has.
// `fma` is written out, because a compiler may or may not make one of a product and a sum.

// acc + w · x, from the first column to the last.
fn add_products(acc: f32, w: vec4<f32>, x: vec4<f32>) -> f32 {
    return fma(w.w, x.w, fma(w.z, x.z, fma(w.y, x.y, fma(w.x, x.x, acc))));
}
