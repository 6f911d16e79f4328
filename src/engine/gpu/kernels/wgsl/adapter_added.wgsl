// Adds s B (A x) of a LoRA adapter to a product. One order of sums for one token and for many.
fn with_adapter(t: u32, r: u32, y: f32) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < RANK4; j++) {
        sum = add_products(sum, low_rank[UP_AT + r * RANK4 + j], lowered(t, j));
    }
    return y + sum;
}
