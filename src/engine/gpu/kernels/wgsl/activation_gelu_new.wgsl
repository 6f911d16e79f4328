// The tanh approximation that GPT-2 was trained with (Hendrycks & Gimpel 2016).
fn activate(x: f32) -> f32 {
    // tanh is 1 in f32 from 9 on; some drivers compute it with an exp() that overflows
    let z = clamp(0.7978845608 * fma(0.044715 * x * x, x, x), -10.0, 10.0);
    return 0.5 * x * (1.0 + tanh(z));
}
