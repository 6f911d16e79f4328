// One token's attention, one workgroup for each head and each piece of the keys, with an online softmax (Milakov &
// Gimelshein 2018; the split over keys is Flash-Decoding). q: [H][D'] of vec4; cache: [S][2][H][D'] of vec4.
// → result: [H][MAX_SPLITS][LANES + 1], which source_attended.wgsl puts together.
const SUBS: u32 = WG / LANES; // so many threads share a lane of the values, each with its own keys

var<workgroup> query: array<vec4<f32>, LANES>;
var<workgroup> weights: array<f32, WG>;
var<workgroup> partial_values: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let head = wg.x;
    let begin = wg.y * params.split_keys;
    let end = min(begin + params.split_keys, params.n_past + 1u);
    let lane = i % LANES;
    let sub = i / LANES;
    for (var j = i; j < LANES; j += WG) {
        query[j] = q[head * LANES + j];
    }
    workgroupBarrier();
    var most = LOWEST;
    var sum = 0.0;
    var values = vec4<f32>(0.0);
    for (var tile = begin; tile < end; tile += WG) {
        let key = tile + i;
        var score = LOWEST;
        if (key < end) {
            score = 0.0;
            for (var j = 0u; j < LANES; j++) {
                score += dot(query[j], cache[(key * 2u * H + head) * LANES + j]);
            }
            score *= SCALE;
        }
        let new_most = max(most, largest(score, i));
        let weight = select(0.0, exp(score - new_most), key < end);
        let rescale = exp(most - new_most);
        most = new_most;
        sum = sum * rescale + total(weight, i);
        weights[i] = weight;
        workgroupBarrier();
        values *= rescale;
        if (sub < SUBS) {
            for (var j = sub; j < min(WG, end - tile); j += SUBS) {
                values += weights[j] * cache[(((tile + j) * 2u + 1u) * H + head) * LANES + lane];
            }
        }
    }
    partial_values[i] = values;
    workgroupBarrier();
    let at = (head * MAX_SPLITS + wg.y) * (LANES + 1u);
    if (i < LANES) {
        for (var s = 1u; s < SUBS; s++) {
            values += partial_values[s * LANES + i];
        }
        result[at + i] = values;
    }
    if (i == 0u) {
        result[at + LANES] = vec4<f32>(most, sum, 0.0, 0.0);
    }
}
