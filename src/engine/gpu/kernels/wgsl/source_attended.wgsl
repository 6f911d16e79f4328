// The output of the attention of single tokens, put together from its pieces in the order of attention_order.wgsl.
// input: [T][H][MAX_PIECES][LANES + 1] of vec4: per token, head and piece of the keys the sum of weighted values (D'
// floats), then the largest score and the sum of the weights.
fn prepare(i: u32) {}

fn merged(t: u32, head: u32, lane: u32) -> vec4<f32> {
    let first = (t * H + head) * MAX_PIECES * (LANES + 1u);
    let n_pieces = position_of(t) / PIECE_KEYS + 1u;
    var most = LOWEST;
    var sum = 0.0;
    var values = vec4<f32>(0.0);
    for (var p = 0u; p < n_pieces; p++) {
        let at = first + p * (LANES + 1u);
        let piece = input[at + LANES];
        let new_most = max(most, piece.x);
        let kept = decay(most, new_most);
        let added = decay(piece.x, new_most);
        most = new_most;
        sum = fma(sum, kept, piece.y * added);
        values = fma(values, vec4<f32>(kept), input[at + lane] * added);
    }
    return values / sum;
}

fn load(t: u32, k4: u32) -> vec4<f32> {
    if (D % 4u == 0u) {
        if (k4 >= H * LANES) {
            return vec4<f32>(0.0);
        }
        return merged(t, k4 / LANES, k4 % LANES);
    }
    var x = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        let k = 4u * k4 + c;
        if (k < H * D) {
            x[c] = merged(t, k / D, k % D / 4u)[k % D % 4u];
        }
    }
    return x;
}
