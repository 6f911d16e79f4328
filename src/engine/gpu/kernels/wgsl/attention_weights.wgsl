// The attention weights themselves, for inspection only: one workgroup for each new token and head.
// q: [T][H][D'] of vec4; cache: [S][2][H][D'] of vec4; → result: [H, T, S]
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let t = wg.x;
    let head = wg.y;
    let n_keys = params.n_past + params.n_new;
    let n_seen = params.n_past + t + 1u;
    let begin = (head * params.n_new + t) * n_keys;
    var most = LOWEST;
    for (var key = i; key < n_seen; key += WG) {
        var score = 0.0;
        for (var j = 0u; j < LANES; j++) {
            score += dot(q[(t * H + head) * LANES + j], cache[(key * 2u * H + head) * LANES + j]);
        }
        score *= SCALE;
        result[begin + key] = score; // read again by this thread alone
        most = max(most, score);
    }
    most = largest(most, i);
    var sum = 0.0;
    for (var key = i; key < n_seen; key += WG) {
        sum += exp(result[begin + key] - most);
    }
    sum = total(sum, i);
    for (var key = i; key < n_keys; key += WG) {
        result[begin + key] = select(0.0, exp(result[begin + key] - most) / sum, key < n_seen);
    }
}
