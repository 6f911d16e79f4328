// Y = X Wᵀ + bias for many tokens. input: X [T, K'] of vec4.
//
// A workgroup of 128 threads computes 32 tokens by 64 rows, a thread 4 by 4, going along k 32 columns at a time. Both
// tiles lie in fast memory with k outermost, so that a vec4 is 4 tokens or the 4 rows of a group.
const TOKENS4: u32 = 8u;
const GROUPS: u32 = 16u;

var<workgroup> x_tile: array<vec4<f32>, 32u * TOKENS4>;
var<workgroup> w_tile: array<vec4<f32>, 32u * GROUPS>;

fn x_at(t: u32, k4: u32) -> vec4<f32> {
    if (t >= params.n_new) {
        return vec4<f32>(0.0);
    }
    return input[t * K4 + k4];
}

fn w_at(group: u32, row: u32, k4: u32) -> vec4<f32> {
    let chunk = k4 / QUADS;
    return quad(quants((group * STEPS + chunk) * 4u + row), k4 % QUADS) * block_scale(group, row, chunk);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let first_group = wg.x * GROUPS;
    let first_token = wg.y * 32u;
    let mine_group = i % GROUPS;
    let mine_token4 = i / GROUPS;
    var sums: array<vec4<f32>, 4>; // of 4 tokens: the 4 rows
    for (var k0 = 0u; k0 < K4; k0 += 8u) {
        workgroupBarrier(); // the last tiles are still being read
        // thread → group i % 16, columns 4 (i / 16): 16 groups by 8 quads are 128
        let group = min(first_group + i % GROUPS, N_GROUPS - 1u);
        let quad4 = i / GROUPS;
        let w = transpose(mat4x4<f32>(
            w_at(group, 0u, k0 + quad4), w_at(group, 1u, k0 + quad4),
            w_at(group, 2u, k0 + quad4), w_at(group, 3u, k0 + quad4)));
        for (var c = 0u; c < 4u; c++) {
            w_tile[(quad4 * 4u + c) * GROUPS + i % GROUPS] = w[c];
        }
        if (i < 64u) {
            let t = first_token + 4u * (i % TOKENS4);
            let x_quad = i / TOKENS4;
            let x = transpose(mat4x4<f32>(
                x_at(t, k0 + x_quad), x_at(t + 1u, k0 + x_quad), x_at(t + 2u, k0 + x_quad), x_at(t + 3u, k0 + x_quad)));
            for (var c = 0u; c < 4u; c++) {
                x_tile[(x_quad * 4u + c) * TOKENS4 + i % TOKENS4] = x[c];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let x = x_tile[k * TOKENS4 + mine_token4];
            let w = w_tile[k * GROUPS + mine_group];
            sums[0] += x.x * w;
            sums[1] += x.y * w;
            sums[2] += x.z * w;
            sums[3] += x.w * w;
        }
    }
    for (var c = 0u; c < 4u; c++) {
        let r = (first_group + mine_group) * 4u + c;
        if (r < R) {
            let scale = row_scale(r);
            let shift = bias(r);
            for (var j = 0u; j < 4u; j++) {
                let t = first_token + mine_token4 * 4u + j;
                if (t < params.n_new) {
                    finish(t, r, sums[j][c] * scale + shift);
                }
            }
        }
    }
}
