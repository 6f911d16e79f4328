// LayerNorm (Ba et al. 2016) of rows of the residual stream. input: [T, K'], zero from K on; norm: weight, then bias
// from BETA4 on. Two passes, mean then variance, since GPT-2's stream has outliers that E[x²] - E[x]² would drown in.
// 64 threads to a row, however many a workgroup has, so that the order of the sums is the same everywhere.
// Needs `norm_row(t)`: which row is the t-th of the TOKENS that this workgroup works on.
const ROWS_AT_ONCE: u32 = WG / 64u;

var<workgroup> means: array<f32, TOKENS>;
var<workgroup> inverse_deviations: array<f32, TOKENS>;

fn prepare(i: u32) {
    for (var t0 = 0u; t0 < TOKENS; t0 += ROWS_AT_ONCE) {
        let t = t0 + i / 64u;
        let begin = norm_row(min(t, TOKENS - 1u)) * K4;
        var sum = 0.0;
        for (var k4 = i % 64u; k4 < K4; k4 += 64u) {
            let x = input[begin + k4];
            sum += ((x.x + x.y) + x.z) + x.w;
        }
        let mean = total(sum, i) * INVERSE_K;
        var squares = 0.0;
        for (var k4 = i % 64u; k4 < K4; k4 += 64u) {
            let is_real = vec4<u32>(4u * k4) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(K);
            let x = select(vec4<f32>(0.0), input[begin + k4] - mean, is_real);
            squares = add_products(squares, x, x);
        }
        let inverse_deviation = inverseSqrt(fma(total(squares, i), INVERSE_K, EPSILON));
        if (i % 64u == 0u && i / 64u < ROWS_AT_ONCE && t < TOKENS) {
            means[t] = mean;
            inverse_deviations[t] = inverse_deviation;
        }
    }
    workgroupBarrier();
}

fn load(t: u32, k4: u32) -> vec4<f32> {
    // weight and bias are zero from K on, and so is the result
    let x = (input[norm_row(t) * K4 + k4] - means[t]) * inverse_deviations[t];
    return fma(x, norm[k4], norm[BETA4 + k4]);
}
