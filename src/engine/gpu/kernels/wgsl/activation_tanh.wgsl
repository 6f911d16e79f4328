fn activate(x: f32) -> f32 {
    return tanh(clamp(x, -10.0, 10.0)); // 1 in f32 from 9 on; some drivers overflow beyond
}
