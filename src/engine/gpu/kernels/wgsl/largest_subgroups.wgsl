// The largest value of a workgroup, by subgroups: two barriers instead of one for each halving. Which thread is in
// which subgroup, and how large one is, is not assumed: every subgroup gathers what all have found. The largest value
// is the same in any order, which a sum is not, so sums are made without subgroups (total.wgsl). Every thread must call
// this.
var<workgroup> values_to_compare: array<f32, WG>;

fn largest(value: f32, i: u32) -> f32 {
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    workgroupBarrier(); // somebody may still be reading the last result
    values_to_compare[i] = subgroupMax(value); // the same one in several places does no harm
    workgroupBarrier();
    var mine = values_to_compare[rank];
    for (var j = rank + size; j < WG; j += size) {
        mine = max(mine, values_to_compare[j]);
    }
    return subgroupMax(mine);
}
