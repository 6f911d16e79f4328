// LayerNorm of the rows of all tokens, one workgroup each. result: [T, K'] of vec4
const TOKENS: u32 = 1u;

var<private> token: u32;

fn norm_row(t: u32) -> u32 {
    return row_of(token);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    token = wg.x;
    prepare(i);
    for (var k4 = i; k4 < K4; k4 += WG) {
        result[token * K4 + k4] = load(0u, k4);
    }
}
