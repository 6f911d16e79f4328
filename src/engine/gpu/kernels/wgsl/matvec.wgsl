// y = W x + bias for TOKENS tokens at most: reads every weight once, which is what decoding costs.
//
// A team of TEAM threads computes one group of four rows. Columns are cut into N_SEGMENTS segments; a thread sums whole
// segments of one row, and a row's segments are then added one after the other. That is the order of matmul.wgsl too,
// and it does not depend on TEAM or TOKENS. The bytes of a group are one stream, 16 of each row in turn, so four
// neighbouring threads read 64 neighbouring bytes. x is read through `load` into fast memory, TILE4 vec4s of each token
// at a time, once for all groups of the workgroup if it fits.
const TEAMS: u32 = WG / TEAM;
const SEGMENT_STEPS: u32 = SEGMENT4 / QUADS;
const TILE_SEGMENTS: u32 = (TILE4 + SEGMENT4 - 1u) / SEGMENT4;
const N_TILES: u32 = (K4 + TILE4 - 1u) / TILE4;

var<workgroup> x_tile: array<vec4<f32>, TOKENS * TILE4>;
var<workgroup> segments: array<f32, TEAMS * TOKENS * N_SEGMENTS * 4u>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let team = i / TEAM;
    let lane = i % TEAM;
    let row = lane % 4u;
    prepare(i);
    for (var first = wg.x * TEAMS; first < N_GROUPS; first += N_WORKGROUPS * TEAMS) {
        let group = first + team;
        for (var tile = 0u; tile < N_TILES; tile++) {
            workgroupBarrier(); // the last tile and the last groups' segments are still being read
            if (N_TILES > 1u || first == wg.x * TEAMS) {
                for (var j = i; j < TOKENS * TILE4; j += WG) {
                    let k4 = tile * TILE4 + j % TILE4;
                    if (k4 < K4) {
                        x_tile[j] = load(j / TILE4, k4);
                    }
                }
                workgroupBarrier();
            }
            let n_segments = min(TILE_SEGMENTS, N_SEGMENTS - tile * TILE_SEGMENTS);
            if (group < N_GROUPS) {
                for (var s = lane / 4u; s < n_segments; s += TEAM / 4u) {
                    let segment = tile * TILE_SEGMENTS + s;
                    var n_steps = SEGMENT_STEPS;
                    if (STEPS % SEGMENT_STEPS != 0u) {
                        n_steps = min(SEGMENT_STEPS, STEPS - segment * SEGMENT_STEPS);
                    }
                    let begin = (group * STEPS + segment * SEGMENT_STEPS) * 4u + row;
                    var sums: array<f32, TOKENS>; // over the block, where blocks have scales, else over the segment
                    var scaled: array<f32, TOKENS>;
                    for (var step = 0u; step < n_steps; step++) {
                        let chunk = quants(begin + step * 4u);
                        let at = (s * SEGMENT_STEPS + step) * QUADS;
                        for (var j = 0u; j < QUADS; j++) {
                            let w = quad(chunk, j);
                            for (var t = 0u; t < TOKENS; t++) {
                                sums[t] = add_products(sums[t], w, x_tile[t * TILE4 + at + j]);
                            }
                        }
                        if (HAS_BLOCKS) {
                            let scale = block_scale(group, row, segment * SEGMENT_STEPS + step);
                            for (var t = 0u; t < TOKENS; t++) {
                                scaled[t] = fma(sums[t], scale, scaled[t]);
                                sums[t] = 0.0;
                            }
                        }
                    }
                    for (var t = 0u; t < TOKENS; t++) {
                        let sum = select(sums[t], scaled[t], HAS_BLOCKS);
                        segments[((team * TOKENS + t) * N_SEGMENTS + segment) * 4u + row] = sum;
                    }
                }
            }
        }
        workgroupBarrier();
        for (var j = i; j < TEAMS * TOKENS * 4u; j += WG) {
            let t = j / 4u % TOKENS;
            let r = (first + j / (4u * TOKENS)) * 4u + j % 4u;
            if (r < R && t < n_tokens()) {
                var sum = 0.0;
                for (var s = 0u; s < N_SEGMENTS; s++) {
                    sum += segments[(j / 4u * N_SEGMENTS + s) * 4u + j % 4u];
                }
                finish(t, r, fma(sum, row_scale(r), bias(r)));
            }
        }
    }
}
