// A x of a LoRA adapter, one workgroup of 64 threads for each four ranks of each token.
const TOKENS: u32 = 1u;

var<private> token: u32;

fn norm_row(t: u32) -> u32 {
    return token;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    token = wg.y;
    prepare(i);
    let lowered = lowered_by_lanes(wg.x, i);
    if (i == 0u) {
        low_rank[LOWERED_AT + token * RANK4 + wg.x] = lowered;
    }
}
