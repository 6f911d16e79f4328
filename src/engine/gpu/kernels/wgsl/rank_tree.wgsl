// The first of what all threads of a workgroup offer. Every thread must call this.
fn first_of(offer: Candidate, i: u32) -> Candidate {
    workgroupBarrier(); // the last winner is still being read
    offers[i] = offer;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        if (i < stride && is_before(offers[i + stride], offers[i])) {
            offers[i] = offers[i + stride];
        }
        workgroupBarrier();
    }
    return offers[0];
}
