// Causal attention of BLOCK_TOKENS new tokens and one head per workgroup (FlashAttention, Dao et al. 2022): keys pass by
// a tile at a time, the softmax is kept up to date, and no [T, S] matrix is ever in memory.
// → result: [T, RESULT_STRIDE], a head's D columns side by side.
const PER_THREAD: u32 = BLOCK_TOKENS / SUBS; // tokens whose values a thread sums, in one lane

var<workgroup> queries: array<vec4<f32>, BLOCK_TOKENS * LANES>;
var<workgroup> weights: array<f32, BLOCK_TOKENS * TILE_KEYS>;
var<workgroup> tile_most: array<f32, BLOCK_TOKENS>;
// What is left of the values so far, and what the tile's, or the piece's, are worth.
var<workgroup> kept: array<f32, BLOCK_TOKENS>;
var<workgroup> added: array<f32, BLOCK_TOKENS>;
var<workgroup> whole_kept: array<f32, BLOCK_TOKENS>;
var<workgroup> whole_added: array<f32, BLOCK_TOKENS>;
var<workgroup> sums: array<f32, BLOCK_TOKENS>;

// The largest score so far and the sum of the weights, of one token; used by its thread alone.
struct Softmax {
    most: f32,
    sum: f32,
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let head = wg.y;
    let tokens = block(wg.x);
    if (!is_mine(tokens)) {
        return;
    }
    open_text(tokens);
    let first = tokens.first;
    let n = tokens.n;
    let n_past = tokens.n_past;
    let end = n_past + n; // keys that the last of these tokens sees
    let lane = i % LANES;
    let sub = i / LANES;
    for (var j = i; j < BLOCK_TOKENS * LANES; j += WG) {
        queries[j] = query_at(first + min(j / LANES, n - 1u), head, j % LANES) * SCALE;
    }
    var piece = Softmax(LOWEST, 0.0);
    var whole = Softmax(LOWEST, 0.0);
    var piece_values = array<vec4<f32>, PER_THREAD>();
    var values = array<vec4<f32>, PER_THREAD>();
    for (var key0 = 0u; key0 < end; key0 += TILE_KEYS) {
        let ends_piece = PIECE_TILES == 1u || (key0 / TILE_KEYS + 1u) % PIECE_TILES == 0u || key0 + TILE_KEYS >= end;
        workgroupBarrier();
        for (var j = i; j < BLOCK_TOKENS * TILE_KEYS; j += WG) {
            let t = j / TILE_KEYS;
            let key = key0 + j % TILE_KEYS;
            var score = LOWEST;
            if (t < n && key <= n_past + t) {
                score = 0.0;
                for (var l = 0u; l < LANES; l++) {
                    score = add_products(score, queries[t * LANES + l], key_at(key, head, l));
                }
            }
            weights[j] = score;
        }
        workgroupBarrier();
        if (i < BLOCK_TOKENS) {
            var most = LOWEST;
            for (var j = 0u; j < TILE_KEYS; j++) {
                most = max(most, weights[i * TILE_KEYS + j]);
            }
            tile_most[i] = most;
        }
        workgroupBarrier();
        for (var j = i; j < BLOCK_TOKENS * TILE_KEYS; j += WG) {
            let score = weights[j];
            // the future weighs nothing
            weights[j] = select(0.0, exp(score - tile_most[j / TILE_KEYS]), score > LOWEST);
        }
        workgroupBarrier();
        if (i < BLOCK_TOKENS) {
            var tile_sum = 0.0;
            for (var j = 0u; j < TILE_KEYS; j += 8u) {
                var eight = 0.0;
                for (var e = 0u; e < 8u; e++) {
                    eight += weights[i * TILE_KEYS + j + e];
                }
                tile_sum += eight;
            }
            let new_most = max(piece.most, tile_most[i]);
            kept[i] = decay(piece.most, new_most);
            added[i] = decay(tile_most[i], new_most);
            piece = Softmax(new_most, fma(piece.sum, kept[i], tile_sum * added[i]));
            if (ends_piece) {
                let most = max(whole.most, piece.most);
                whole_kept[i] = decay(whole.most, most);
                whole_added[i] = decay(piece.most, most);
                whole = Softmax(most, fma(whole.sum, whole_kept[i], piece.sum * whole_added[i]));
                piece = Softmax(LOWEST, 0.0);
            }
        }
        workgroupBarrier();
        if (sub < SUBS) {
            var tile_values = array<vec4<f32>, PER_THREAD>();
            for (var part = 0u; part < TILE_KEYS; part += PART_KEYS) {
                var part_values = array<vec4<f32>, PER_THREAD>();
                for (var j = part; j < min(part + PART_KEYS, end - key0); j++) {
                    let v = value_at(key0 + j, head, lane);
                    for (var u = 0u; u < PER_THREAD; u++) {
                        let weight = weights[(sub * PER_THREAD + u) * TILE_KEYS + j];
                        part_values[u] = fma(vec4<f32>(weight), v, part_values[u]);
                    }
                }
                for (var u = 0u; u < PER_THREAD; u++) {
                    tile_values[u] += part_values[u];
                }
            }
            for (var u = 0u; u < PER_THREAD; u++) {
                let t = sub * PER_THREAD + u;
                piece_values[u] = fma(piece_values[u], vec4<f32>(kept[t]), tile_values[u] * added[t]);
                if (ends_piece) {
                    values[u] = fma(values[u], vec4<f32>(whole_kept[t]), piece_values[u] * whole_added[t]);
                    piece_values[u] = vec4<f32>(0.0);
                }
            }
        }
    }
    keep(tokens, head, i);
    if (i < BLOCK_TOKENS) {
        sums[i] = whole.sum;
    }
    workgroupBarrier();
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
