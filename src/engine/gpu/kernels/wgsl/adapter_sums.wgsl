// Four ranks of A x of a LoRA adapter, summed by 64 neighbouring threads in an order that only K4 decides. `x_at` reads
// what the product reads. low_rank: see memory/adapter.rs. Every thread must call this.
fn lowered_by_lanes(rank4: u32, i: u32) -> vec4<f32> {
    let first = rank4 * 4u * K4;
    var sums = vec4<f32>(0.0);
    for (var k4 = i % 64u; k4 < K4; k4 += 64u) {
        let x = x_at(k4);
        for (var j = 0u; j < 4u; j++) {
            sums[j] = add_products(sums[j], low_rank[first + j * K4 + k4], x);
        }
    }
    for (var j = 0u; j < 4u; j++) {
        sums[j] = total(sums[j], i);
    }
    return sums;
}
