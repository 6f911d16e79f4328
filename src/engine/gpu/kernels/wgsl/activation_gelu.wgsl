// erf by Abramowitz & Stegun 7.1.26: off by 1.5e-7 at most.
fn erf(x: f32) -> f32 {
    let a = min(abs(x), 6.0);
    let t = 1.0 / fma(0.3275911, a, 1.0);
    let poly = fma(fma(fma(fma(1.061405429, t, -1.453152027), t, 1.421413741), t, -0.284496736), t, 0.254829592) * t;
    return sign(x) * fma(-poly, exp(-a * a), 1.0);
}

fn activate(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.7071067812));
}
