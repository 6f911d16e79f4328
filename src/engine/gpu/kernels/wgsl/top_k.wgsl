// The k best logits of each piece of the vocabulary, one workgroup a piece. logits: [V]
// → tops: [N_PIECES][MAX_K] of (id, logit), then [N_PIECES] of (whether a logit is not finite, what the piece weighs
// beside its best logit, for a draw from the whole vocabulary)

var<workgroup> n_bad: atomic<u32>;
var<workgroup> best: f32;

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
            if (round == 0u) {
                best = last.logit;
            }
        }
    }
    var weighed = 0.0;
    if (params.whole != 0u) {
        workgroupBarrier(); // the best is there
        weighed = all_of(sum_of(begin, end, best, i), i);
    }
    if (i == 0u) {
        tops[N_PIECES * MAX_K + wg.x] = vec2<u32>(atomicLoad(&n_bad), bitcast<u32>(weighed));
    }
}
