// y = W x + bias for TOKENS tokens at most: reads every weight once, which is what decoding costs.
//
// A team of TEAM threads computes one group of four rows. Columns are cut into N_SEGMENTS segments; a thread sums whole
// segments of one row, for the tokens of one of PARTS parts, and a row's segments are then added one after the other.
// That is the order of matmul.wgsl too, and it depends on none of TEAM, TOKENS and PARTS. The bytes of a group are one
// stream, 16 of each row in turn, so four neighbouring threads read 64 neighbouring bytes. x is read through `load` into
// fast memory, TILE4 vec4s of each token at a time, once for all groups of the workgroup if it fits.
const TEAMS: u32 = WG / TEAM;
const SEGMENT_THREADS: u32 = TEAM / 4u / PARTS;
const PART_TOKENS: u32 = TOKENS / PARTS;
const SEGMENT_STEPS: u32 = SEGMENT4 / QUADS;
const TILE_SEGMENTS: u32 = (TILE4 + SEGMENT4 - 1u) / SEGMENT4;
const N_TILES: u32 = (K4 + TILE4 - 1u) / TILE4;

var<workgroup> x_tile: array<vec4<f32>, TOKENS * TILE4>;
var<workgroup> segments: array<f32, TEAMS * TOKENS * TILE_SEGMENTS * 4u>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let team = i / TEAM;
    let row = i % 4u;
    let first_segment = i % TEAM / 4u % SEGMENT_THREADS;
    let first_token = i % TEAM / 4u / SEGMENT_THREADS * PART_TOKENS;
    prepare(i);
    prepare_adapter(i);
    for (var first = wg.x * TEAMS; first < N_GROUPS; first += N_WORKGROUPS * TEAMS) {
        let group = first + team;
        var whole = 0.0; // of the token and row that this thread adds the segments of
        for (var tile = 0u; tile < N_TILES; tile++) {
            workgroupBarrier(); // the last tile and its segments are still being read
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
                for (var s = first_segment; s < n_segments; s += SEGMENT_THREADS) {
                    let segment = tile * TILE_SEGMENTS + s;
                    var n_steps = SEGMENT_STEPS;
                    if (STEPS % SEGMENT_STEPS != 0u) {
                        n_steps = min(SEGMENT_STEPS, STEPS - segment * SEGMENT_STEPS);
                    }
                    let begin = (group * STEPS + segment * SEGMENT_STEPS) * 4u + row;
                    // over the block, where blocks have scales, else over the segment
                    var sums = array<f32, PART_TOKENS>();
                    var scaled = array<f32, PART_TOKENS>();
                    for (var step = 0u; step < n_steps; step++) {
                        let chunk = quants(begin + step * 4u);
                        let at = first_token * TILE4 + (s * SEGMENT_STEPS + step) * QUADS;
                        for (var j = 0u; j < QUADS; j++) {
                            let w = quad(chunk, j);
                            for (var t = 0u; t < PART_TOKENS; t++) {
                                sums[t] = add_products(sums[t], w, x_tile[t * TILE4 + at + j]);
                            }
                        }
                        if (HAS_BLOCKS) {
                            let scale = block_scale(group, row, segment * SEGMENT_STEPS + step);
                            for (var t = 0u; t < PART_TOKENS; t++) {
                                scaled[t] = fma(sums[t], scale, scaled[t]);
                                sums[t] = 0.0;
                            }
                        }
                    }
                    for (var t = 0u; t < PART_TOKENS; t++) {
                        let sum = select(sums[t], scaled[t], HAS_BLOCKS);
                        segments[((team * TOKENS + first_token + t) * TILE_SEGMENTS + s) * 4u + row] = sum;
                    }
                }
            }
            workgroupBarrier();
            if (i < TEAMS * TOKENS * 4u) {
                for (var s = 0u; s < n_segments; s++) {
                    whole += segments[(i / 4u * TILE_SEGMENTS + s) * 4u + row];
                }
            }
        }
        let t = i / 4u % TOKENS;
        let r = (first + i / (4u * TOKENS)) * 4u + row;
        if (i < TEAMS * TOKENS * 4u && r < R && t < n_tokens()) {
            finish(t, r, with_adapter(t, r, fma(whole, row_scale(r), bias(r))));
        }
    }
}
