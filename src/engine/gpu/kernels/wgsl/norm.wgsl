// LayerNorm of every new token's row, one workgroup each. result: [T, K'] of vec4
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    prepare_row(wg.x, i);
    for (var k4 = i; k4 < K4; k4 += WG) {
        result[wg.x * K4 + k4] = load(k4);
    }
}
