// The first of what all threads of a workgroup offer, by subgroups; see largest_subgroups.wgsl. Every thread must call
// this.
fn first_of_subgroup(offer: Candidate) -> Candidate {
    let logit = subgroupMax(offer.logit);
    return Candidate(subgroupMin(select(NOBODY.id, offer.id, offer.logit == logit)), logit);
}

fn first_of(offer: Candidate, i: u32) -> Candidate {
    let rank = subgroupExclusiveAdd(1u);
    let size = subgroupAdd(1u);
    let ours = first_of_subgroup(offer);
    workgroupBarrier(); // the last offers are still being read
    offers[i] = ours; // the same one in several places does no harm
    workgroupBarrier();
    var mine = offers[rank];
    for (var j = rank + size; j < WG; j += size) {
        if (is_before(offers[j], mine)) {
            mine = offers[j];
        }
    }
    return first_of_subgroup(mine);
}
