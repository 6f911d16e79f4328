// erf by Abramowitz & Stegun 7.1.26: off by 1.5e-7 at most.
fn erf(x: f32) -> f32 {
    let a = min(abs(x), 6.0);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - poly * exp(-a * a));
}

fn activate(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.7071067812));
}
