// LayerNorm (Ba et al. 2016) of one row of the residual stream. input: [T, K'], zero from K on; norm: weight, then bias
// from BETA4 on. Two passes, mean then variance, since GPT-2's stream has outliers that E[x²] - E[x]² would drown in.
var<private> row_begin: u32;
var<private> mean: f32;
var<private> inverse_deviation: f32;

fn prepare_row(row: u32, i: u32) {
    row_begin = row * K4;
    var sum = 0.0;
    for (var k4 = i; k4 < K4; k4 += WG) {
        sum += dot(input[row_begin + k4], vec4<f32>(1.0));
    }
    mean = total(sum, i) / f32(K);
    var squares = 0.0;
    for (var k4 = i; k4 < K4; k4 += WG) {
        let is_real = vec4<u32>(4u * k4) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(K);
        let x = select(vec4<f32>(0.0), input[row_begin + k4] - mean, is_real);
        squares += dot(x, x);
    }
    inverse_deviation = inverseSqrt(total(squares, i) / f32(K) + EPSILON);
}

fn prepare(i: u32) {
    prepare_row(params.n_new - 1u, i); // the newest token
}

fn load(k4: u32) -> vec4<f32> {
    // weight and bias are zero from K on, and so is the result
    return (input[row_begin + k4] - mean) * inverse_deviation * norm[k4] + norm[BETA4 + k4];
}
