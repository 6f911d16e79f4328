// y = W x + bias for one token: reads every weight once, which is what decoding costs.
//
// A team of TEAM threads computes one group of four rows. The bytes of a group are one stream, 16 of each row in turn,
// so neighbouring threads read neighbouring chunks and thread i of a team always has row i % 4. x is read through
// `load` into fast memory, TILE4 vec4s at a time, once for all groups of the workgroup if it fits.
const TEAMS: u32 = WG / TEAM;
const TILE_STEPS: u32 = TILE4 / QUADS;
const N_TILES: u32 = (K4 + TILE4 - 1u) / TILE4;

var<workgroup> x_tile: array<vec4<f32>, TILE4>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let team = i / TEAM;
    let lane = i % TEAM;
    prepare(i);
    for (var first = wg.x * TEAMS; first < N_GROUPS; first += N_WORKGROUPS * TEAMS) {
        let group = first + team;
        var sum = 0.0;
        for (var tile = 0u; tile < N_TILES; tile++) {
            if (N_TILES > 1u || first == wg.x * TEAMS) {
                workgroupBarrier(); // the last tile is still being read
                for (var k4 = i; k4 < TILE4 && tile * TILE4 + k4 < K4; k4 += WG) {
                    x_tile[k4] = load(tile * TILE4 + k4);
                }
                workgroupBarrier();
            }
            let n_steps = min(TILE_STEPS, STEPS - tile * TILE_STEPS);
            if (group < N_GROUPS) {
                let begin = (group * STEPS + tile * TILE_STEPS) * 4u;
                for (var c = lane; c < n_steps * 4u; c += TEAM) {
                    let chunk = quants(begin + c);
                    var part = 0.0;
                    for (var j = 0u; j < QUADS; j++) {
                        part += dot(quad(chunk, j), x_tile[c / 4u * QUADS + j]);
                    }
                    sum += part * block_scale(group, lane % 4u, tile * TILE_STEPS + c / 4u);
                }
            }
        }
        workgroupBarrier(); // the last group's sums are still being read
        scratch[i] = sum;
        workgroupBarrier();
        // down to four sums, one for each row
        for (var stride = TEAM / 2u; stride >= 4u; stride /= 2u) {
            if (lane < stride) {
                scratch[i] += scratch[i + stride];
            }
            workgroupBarrier();
        }
        let r = group * 4u + lane;
        if (lane < 4u && r < R) {
            finish(0u, r, scratch[i] * row_scale(r) + bias(r));
        }
    }
}
