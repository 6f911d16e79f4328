// Y = X Wᵀ + bias for many tokens. input: X [T, K'] of vec4. Sums in the order of matvec.wgsl: along each segment of
// the columns, and then the segments.
//
// A workgroup of TOKENS4 · GROUPS threads computes 4 TOKENS4 tokens by 4 GROUPS rows, a thread 4 by 4, going along k 32
// columns at a time. Both tiles lie in fast memory with k outermost, so that a vec4 is 4 tokens or the 4 rows of a
// group. What they hold of weights is `Weights`; products and sums are f32, whatever that is.

var<workgroup> x_tile: array<vec4<f32>, 32u * TOKENS4>;
var<workgroup> w_tile: array<Weights, 32u * GROUPS>;

fn x_at(t: u32, k4: u32) -> vec4<f32> {
    if (t >= n_tokens()) {
        return vec4<f32>(0.0);
    }
    return input[t * K4 + k4];
}

// Without the scale of a block, which is for the sums over it.
fn w_at(group: u32, row: u32, k4: u32) -> vec4<f32> {
    return quad(quants((group * STEPS + k4 / QUADS) * 4u + row), k4 % QUADS);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let first_group = wg.x * GROUPS;
    let first_token = wg.y * TOKENS4 * 4u;
    let mine_group = i % GROUPS;
    let mine_token4 = i / GROUPS;
    // Of 4 tokens the 4 rows: sums over a block, where blocks have scales, over a segment, over the segments so far.
    var sums = array<vec4<f32>, 4>();
    var segments = array<vec4<f32>, 4>();
    var whole = array<vec4<f32>, 4>();
    for (var k0 = 0u; k0 < K4; k0 += 8u) {
        workgroupBarrier(); // the last tiles are still being read
        // j → group j % GROUPS, columns 4 (j / GROUPS)
        for (var j = i; j < GROUPS * 8u; j += WG) {
            let group = min(first_group + j % GROUPS, N_GROUPS - 1u);
            let k4 = k0 + j / GROUPS;
            let w = transpose(mat4x4<f32>(
                w_at(group, 0u, k4), w_at(group, 1u, k4), w_at(group, 2u, k4), w_at(group, 3u, k4)));
            for (var c = 0u; c < 4u; c++) {
                w_tile[(j / GROUPS * 4u + c) * GROUPS + j % GROUPS] = Weights(w[c]);
            }
        }
        for (var j = i; j < TOKENS4 * 8u; j += WG) {
            let t = first_token + 4u * (j % TOKENS4);
            let k4 = k0 + j / TOKENS4;
            let x = transpose(mat4x4<f32>(x_at(t, k4), x_at(t + 1u, k4), x_at(t + 2u, k4), x_at(t + 3u, k4)));
            for (var c = 0u; c < 4u; c++) {
                x_tile[(j / TOKENS4 * 4u + c) * TOKENS4 + j % TOKENS4] = x[c];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let x = x_tile[k * TOKENS4 + mine_token4];
            let w = vec4<f32>(w_tile[k * GROUPS + mine_group]);
            sums[0] = fma(vec4<f32>(x.x), w, sums[0]);
            sums[1] = fma(vec4<f32>(x.y), w, sums[1]);
            sums[2] = fma(vec4<f32>(x.z), w, sums[2]);
            sums[3] = fma(vec4<f32>(x.w), w, sums[3]);
        }
        if (HAS_BLOCKS) {
            let group = min(first_group + mine_group, N_GROUPS - 1u);
            let block = k0 / 8u;
            let scales = vec4<f32>(
                block_scale(group, 0u, block), block_scale(group, 1u, block),
                block_scale(group, 2u, block), block_scale(group, 3u, block));
            for (var j = 0u; j < 4u; j++) {
                segments[j] = fma(sums[j], scales, segments[j]);
                sums[j] = vec4<f32>(0.0);
            }
        }
        if ((k0 + 8u) % SEGMENT4 == 0u || k0 + 8u == K4) {
            for (var j = 0u; j < 4u; j++) {
                whole[j] += select(sums[j], segments[j], HAS_BLOCKS);
                sums[j] = vec4<f32>(0.0);
                segments[j] = vec4<f32>(0.0);
            }
        }
    }
    for (var c = 0u; c < 4u; c++) {
        let r = (first_group + mine_group) * 4u + c;
        if (r < R) {
            let scale = row_scale(r);
            let shift = bias(r);
            for (var j = 0u; j < 4u; j++) {
                let t = first_token + mine_token4 * 4u + j;
                if (t < n_tokens()) {
                    finish(t, r, with_adapter(t, r, fma(whole[j][c], scale, shift)));
                }
            }
        }
    }
}
