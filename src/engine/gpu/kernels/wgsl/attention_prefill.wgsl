// Causal attention of TQ new tokens and one head per workgroup (FlashAttention, Dao et al. 2022): keys pass by TK at a
// time, the softmax is kept up to date, and no [T, S] matrix is ever in memory.
// q: [T][H][D'] of vec4; cache: [S][2][H][D'] of vec4; → result: [T, RESULT_STRIDE], a head's D columns side by side.
const PER_THREAD: u32 = TQ / SUBS; // tokens whose values a thread sums, in one lane

var<workgroup> queries: array<vec4<f32>, TQ * LANES>;
var<workgroup> weights: array<f32, TQ * TK>;
var<workgroup> most: array<f32, TQ>;
var<workgroup> sums: array<f32, TQ>;
var<workgroup> rescale: array<f32, TQ>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let head = wg.y;
    let first = wg.x * TQ;
    let n = min(TQ, params.n_new - first);
    let end = params.n_past + first + n; // keys that the last of these tokens sees
    let lane = i % LANES;
    let sub = i / LANES;
    for (var j = i; j < TQ * LANES; j += WG) {
        let t = min(first + j / LANES, params.n_new - 1u);
        queries[j] = q[(t * H + head) * LANES + j % LANES];
    }
    if (i < TQ) {
        most[i] = LOWEST;
        sums[i] = 0.0;
    }
    var values: array<vec4<f32>, PER_THREAD>;
    for (var key0 = 0u; key0 < end; key0 += TK) {
        workgroupBarrier();
        for (var j = i; j < TQ * TK; j += WG) {
            let t = j / TK;
            let key = key0 + j % TK;
            var score = LOWEST;
            if (t < n && key <= params.n_past + first + t) {
                score = 0.0;
                for (var l = 0u; l < LANES; l++) {
                    score += dot(queries[t * LANES + l], cache[(key * 2u * H + head) * LANES + l]);
                }
                score *= SCALE;
            }
            weights[j] = score;
        }
        workgroupBarrier();
        if (i < TQ) {
            var new_most = most[i];
            for (var j = 0u; j < TK; j++) {
                new_most = max(new_most, weights[i * TK + j]);
            }
            rescale[i] = exp(most[i] - new_most);
            most[i] = new_most;
            var sum = sums[i] * rescale[i];
            for (var j = 0u; j < TK; j++) {
                let score = weights[i * TK + j];
                let weight = select(0.0, exp(score - new_most), score > LOWEST); // the future weighs nothing
                weights[i * TK + j] = weight;
                sum += weight;
            }
            sums[i] = sum;
        }
        workgroupBarrier();
        if (sub < SUBS) {
            for (var u = 0u; u < PER_THREAD; u++) {
                values[u] *= rescale[sub * PER_THREAD + u];
            }
            for (var j = 0u; j < min(TK, end - key0); j++) {
                let v = cache[(((key0 + j) * 2u + 1u) * H + head) * LANES + lane];
                for (var u = 0u; u < PER_THREAD; u++) {
                    values[u] += weights[(sub * PER_THREAD + u) * TK + j] * v;
                }
            }
        }
    }
    if (sub < SUBS) {
        for (var u = 0u; u < PER_THREAD; u++) {
            let t = sub * PER_THREAD + u;
            if (t < n) {
                let x = values[u] / sums[t];
                for (var c = 0u; c < 4u; c++) {
                    if (4u * lane + c < D) {
                        result[(first + t) * RESULT_STRIDE + head * D + 4u * lane + c] = x[c];
                    }
                }
            }
        }
    }
}
