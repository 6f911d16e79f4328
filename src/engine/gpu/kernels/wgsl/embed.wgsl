// wte[id] + wpe[position] for each new token, which begins the residual stream. → result: [T, K'] of vec4
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let k4 = at.x;
    let t = at.y;
    if (k4 >= K4) {
        return;
    }
    let id = id_of(t);
    let chunk = k4 / QUADS;
    var x = quad(quants((id / 4u * STEPS + chunk) * 4u + id % 4u), k4 % QUADS);
    let scale = block_scale(id / 4u, id % 4u, chunk) * row_scale(id);
    for (var c = 0u; c < 4u; c++) {
        x[c] = select(0.0, fma(x[c], scale, wpe[position_of(t) * K + min(4u * k4 + c, K - 1u)]), 4u * k4 + c < K);
    }
    result[t * K4 + k4] = x;
}
