// The k best logits of each piece of the vocabulary, one workgroup a piece. logits: [V]
// → tops: [N_PIECES][MAX_K] of (id, logit), then [N_PIECES] of (whether a logit is not finite, 0)
const PIECE: u32 = (V + N_PIECES - 1u) / N_PIECES;

var<workgroup> n_bad: atomic<u32>;

fn candidate(j: u32) -> Candidate {
    return Candidate(j, logits[j]);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) i: u32) {
    let begin = min(wg.x * PIECE, V);
    let end = min(begin + PIECE, V);
    for (var j = begin + i; j < end; j += WG) {
        // by its bits: a compiler may assume that there is no NaN
        if ((bitcast<u32>(logits[j]) & 0x7f800000u) == 0x7f800000u) {
            atomicAdd(&n_bad, 1u);
        }
    }
    var last = NOBODY;
    for (var round = 0u; round < params.k; round++) {
        last = next_best(begin, end, last, round == 0u, i);
        if (i == 0u) {
            tops[wg.x * MAX_K + round] = vec2<u32>(last.id, bitcast<u32>(last.logit));
        }
    }
    if (i == 0u) {
        tops[N_PIECES * MAX_K + wg.x] = vec2<u32>(atomicLoad(&n_bad), 0u);
    }
}
