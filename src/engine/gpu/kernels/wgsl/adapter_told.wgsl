// A x of a LoRA adapter is there already: adapter_lower.wgsl.
fn prepare_adapter(i: u32) {}

fn lowered(t: u32, j: u32) -> vec4<f32> {
    return low_rank[LOWERED_AT + t * RANK4 + j];
}
