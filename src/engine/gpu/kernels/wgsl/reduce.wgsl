// Sums and maxima over a workgroup. WG: its threads, a power of two. Every thread must call these.
var<workgroup> scratch: array<f32, WG>;

fn total(value: f32, i: u32) -> f32 {
    workgroupBarrier(); // somebody may still be reading the last result
    scratch[i] = value;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        if (i < stride) {
            scratch[i] += scratch[i + stride];
        }
        workgroupBarrier();
    }
    return scratch[0];
}

fn largest(value: f32, i: u32) -> f32 {
    workgroupBarrier();
    scratch[i] = value;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        if (i < stride) {
            scratch[i] = max(scratch[i], scratch[i + stride]);
        }
        workgroupBarrier();
    }
    return scratch[0];
}
