// Sums and maxima over a workgroup, by subgroups: two barriers instead of one for each halving. Which thread is in
// which subgroup, and how large one is, is not assumed: a subgroup's first thread leaves its result in its own place,
// and every subgroup gathers all places. Every thread must call these.
var<workgroup> scratch: array<f32, WG>;

fn total(value: f32, i: u32) -> f32 {
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    let sum = subgroupAdd(value);
    workgroupBarrier(); // somebody may still be reading the last result
    scratch[i] = select(0.0, sum, rank == 0u);
    workgroupBarrier();
    var mine = 0.0;
    for (var j = rank; j < WG; j += size) {
        mine += scratch[j];
    }
    return subgroupAdd(mine);
}

fn largest(value: f32, i: u32) -> f32 {
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    workgroupBarrier();
    scratch[i] = subgroupMax(value); // the same one in several places does no harm
    workgroupBarrier();
    var mine = scratch[rank];
    for (var j = rank + size; j < WG; j += size) {
        mine = max(mine, scratch[j]);
    }
    return subgroupMax(mine);
}
