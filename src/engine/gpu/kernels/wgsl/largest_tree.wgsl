// The largest value of a workgroup. WG: its threads, a power of two. Every thread must call this.
var<workgroup> values_to_compare: array<f32, WG>;

fn largest(value: f32, i: u32) -> f32 {
    workgroupBarrier(); // somebody may still be reading the last result
    values_to_compare[i] = value;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        if (i < stride) {
            values_to_compare[i] = max(values_to_compare[i], values_to_compare[i + stride]);
        }
        workgroupBarrier();
    }
    return values_to_compare[0];
}
