// The output of the decoding attention, put together from its pieces. input: [H][MAX_SPLITS][LANES + 1] of vec4: per
// head and piece of the keys the sum of weighted values (D' floats), then the largest score and the sum of the weights.
fn prepare(i: u32) {}

fn merged(head: u32, lane: u32) -> vec4<f32> {
    let first = head * MAX_SPLITS * (LANES + 1u);
    var most = LOWEST;
    for (var s = 0u; s < params.n_splits; s++) {
        most = max(most, input[first + s * (LANES + 1u) + LANES].x);
    }
    var sum = 0.0;
    var values = vec4<f32>(0.0);
    for (var s = 0u; s < params.n_splits; s++) {
        let at = first + s * (LANES + 1u);
        let weight = exp(input[at + LANES].x - most);
        sum += weight * input[at + LANES].y;
        values += weight * input[at + lane];
    }
    return values / sum;
}

fn load(k4: u32) -> vec4<f32> {
    if (D % 4u == 0u) {
        if (k4 >= H * LANES) {
            return vec4<f32>(0.0);
        }
        return merged(k4 / LANES, k4 % LANES);
    }
    var x = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        let k = 4u * k4 + c;
        if (k < H * D) {
            x[c] = merged(k / D, k % D / 4u)[k % D % 4u];
        }
    }
    return x;
}
