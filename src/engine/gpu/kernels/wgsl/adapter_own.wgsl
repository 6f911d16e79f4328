// A x of a LoRA adapter of few ranks, of one token: every workgroup of the product computes it for itself, as it does the
// norm, since another dispatch would take longer.
const RANKS_AT_ONCE: u32 = WG / 64u;

var<workgroup> own_lowered: array<vec4<f32>, RANK4>;

fn prepare_adapter(i: u32) {
    for (var first = 0u; first < RANK4; first += RANKS_AT_ONCE) {
        let rank4 = first + i / 64u;
        let sums = lowered_by_lanes(min(rank4, RANK4 - 1u), i);
        if (i % 64u == 0u && i / 64u < RANKS_AT_ONCE && rank4 < RANK4) {
            own_lowered[rank4] = sums;
        }
    }
    workgroupBarrier();
}

fn lowered(t: u32, j: u32) -> vec4<f32> {
    return own_lowered[j];
}
