// A x of a LoRA adapter, one workgroup of 64 threads for each four ranks of each token. `x_at` reads what the product
// reads. The same for one token and for many, so the order of its sums is. low_rank: see memory/adapter.rs
const TOKENS: u32 = 1u;

var<private> token: u32;

fn norm_row(t: u32) -> u32 {
    return token;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    token = wg.y;
    prepare(i);
    let first = wg.x * 4u * K4;
    var sums = vec4<f32>(0.0);
    for (var k4 = i; k4 < K4; k4 += WG) {
        let x = x_at(k4);
        for (var j = 0u; j < 4u; j++) {
            sums[j] = add_products(sums[j], low_rank[first + j * K4 + k4], x);
        }
    }
    for (var j = 0u; j < 4u; j++) {
        sums[j] = total(sums[j], i);
    }
    if (i == 0u) {
        low_rank[LOWERED_AT + token * RANK4 + wg.x] = sums;
    }
}
