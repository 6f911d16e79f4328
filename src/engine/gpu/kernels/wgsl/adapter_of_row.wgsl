fn x_at(k4: u32) -> vec4<f32> {
    return load(token, k4);
}
