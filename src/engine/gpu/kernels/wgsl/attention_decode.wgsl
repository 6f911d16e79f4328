// Attention of single tokens, one workgroup for each token, head and piece of the keys (the split over keys is
// Flash-Decoding).
// → result: [T][H][MAX_PIECES][LANES + 1], which source_attended.wgsl puts together.
const IN_PARTS: bool = 4u * LANES <= WG; // a thread for each part of a tile's values, else one for all four

var<workgroup> query: array<vec4<f32>, LANES>;
var<workgroup> weights: array<f32, TILE_KEYS>;
var<workgroup> partial_values: array<vec4<f32>, select(1u, 4u * LANES, IN_PARTS)>;

fn part_of_values(tile: u32, part: u32, end: u32, head: u32, lane: u32) -> vec4<f32> {
    var values = vec4<f32>(0.0);
    let first = part * PART_KEYS;
    for (var j = first; j < min(first + PART_KEYS, end - tile); j++) {
        values = fma(vec4<f32>(weights[j]), value_at(tile + j, head, lane), values);
    }
    return values;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let t = wg.x / H;
    let head = wg.x % H;
    let begin = wg.y * PIECE_KEYS;
    let token = single(t);
    let n_keys = token.n_past + 1u;
    if (begin >= n_keys || !is_mine(token)) {
        return; // a piece of a longer text in the same pass
    }
    open_text(token);
    let end = min(begin + PIECE_KEYS, n_keys);
    for (var j = i; j < LANES; j += WG) {
        query[j] = query_at(t, head, j) * SCALE;
    }
    workgroupBarrier();
    var most = LOWEST;
    var sum = 0.0;
    var values = vec4<f32>(0.0);
    for (var tile = begin; tile < end; tile += TILE_KEYS) {
        let key = tile + i;
        let is_seen = i < TILE_KEYS && key < end;
        var score = LOWEST;
        if (is_seen) {
            score = 0.0;
            for (var j = 0u; j < LANES; j++) {
                score = add_products(score, query[j], key_at(key, head, j));
            }
        }
        let tile_most = largest(score, i);
        let weight = select(0.0, exp(score - tile_most), is_seen);
        let tile_sum = total(weight, i); // for the first 64 threads, of which one tells it
        if (i < TILE_KEYS) {
            weights[i] = weight;
        }
        workgroupBarrier();
        var tile_values = vec4<f32>(0.0);
        if (IN_PARTS) {
            if (i < 4u * LANES) {
                partial_values[i] = part_of_values(tile, i / LANES, end, head, i % LANES);
            }
            workgroupBarrier();
            for (var part = 0u; part < 4u && i < LANES; part++) {
                tile_values += partial_values[part * LANES + i];
            }
        } else if (i < LANES) {
            for (var part = 0u; part < 4u; part++) {
                tile_values += part_of_values(tile, part, end, head, i);
            }
        }
        let new_most = max(most, tile_most);
        let kept = decay(most, new_most);
        let added = decay(tile_most, new_most);
        most = new_most;
        sum = fma(sum, kept, tile_sum * added);
        values = fma(values, vec4<f32>(kept), tile_values * added);
    }
    if (end == n_keys) {
        keep(token, head, i);
    }
    let at = (wg.x * MAX_PIECES + wg.y) * (LANES + 1u);
    if (i < LANES) {
        result[at + i] = values;
    }
    if (i == 0u) {
        result[at + LANES] = vec4<f32>(most, sum, 0.0, 0.0);
    }
}
