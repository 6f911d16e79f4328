// LayerNorm of every new token's row, one workgroup each. result: [T, K'] of vec4
const TOKENS: u32 = 1u;

var<private> row: u32;

fn row_of(t: u32) -> u32 {
    return row;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    row = wg.x;
    prepare(i);
    for (var k4 = i; k4 < K4; k4 += WG) {
        result[row * K4 + k4] = load(0u, k4);
    }
}
