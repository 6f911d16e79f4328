// The sum over 64 neighbouring threads: eight sums of eight, and then of those. WG: the workgroup's threads. Every
// thread must call this; those of an unfinished 64 at the end get no sum.
var<workgroup> summands: array<f32, (WG + 63u) / 64u * 64u>;

fn total(value: f32, i: u32) -> f32 {
    workgroupBarrier(); // somebody may still be reading the last result
    summands[i] = value;
    workgroupBarrier();
    if (i % 8u == 0u) {
        var eight = 0.0;
        for (var j = 0u; j < 8u; j++) {
            eight += summands[i + j];
        }
        summands[i] = eight; // nobody else reads these eight before the barrier
    }
    workgroupBarrier();
    let first = i / 64u * 64u;
    var sum = 0.0;
    for (var j = 0u; j < 64u; j += 8u) {
        sum += summands[first + j];
    }
    return sum;
}
