// result: [T, RESULT_STRIDE]
fn finish(t: u32, r: u32, y: f32) {
    result[t * RESULT_STRIDE + r] = y;
}
