// What stretches of the vocabulary weigh: sums of exp((logit - best) / temperature), added as a tree so that little is
// lost to rounding. Needs: WG, V, N_PIECES, logits.
const PIECE: u32 = (V + N_PIECES - 1u) / N_PIECES;

var<workgroup> parts: array<f32, WG>;

// Of each thread's share of logits [begin, end): neighbours, so that shares are in the order of ids.
fn share_of(begin: u32, end: u32, i: u32) -> vec2<u32> {
    let n = (PIECE + WG - 1u) / WG;
    return vec2<u32>(min(begin + i * n, end), min(begin + (i + 1u) * n, end));
}

fn sum_of(begin: u32, end: u32, best: f32, i: u32) -> f32 {
    let share = share_of(begin, end, i);
    var sum = 0.0;
    for (var j = share.x; j < share.y; j++) {
        sum += exp((logits[j] - best) * params.inverse_temperature);
    }
    return sum;
}

// The sum over all threads; every thread must call this.
fn all_of(part: f32, i: u32) -> f32 {
    workgroupBarrier(); // the last sum is still being read
    parts[i] = part;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        if (i < stride) {
            parts[i] += parts[i + stride];
        }
        workgroupBarrier();
    }
    return parts[0];
}
