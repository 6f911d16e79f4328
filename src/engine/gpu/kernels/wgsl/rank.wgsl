// The best candidates of a workgroup, one a round: each thread offers its best of those that come after the last
// winner. Most likely first, ties by lower id, which is a total order, so nothing has to be marked as taken. Needs: WG,
// `candidate(j) -> Candidate`, and `first_of` from rank_tree.wgsl or rank_subgroups.wgsl.
struct Candidate {
    id: u32,
    logit: f32,
}

const NOBODY: Candidate = Candidate(0xffffffffu, -3.4028234e38);

var<workgroup> offers: array<Candidate, WG>;

fn is_before(a: Candidate, b: Candidate) -> bool {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// The best of candidates [begin, end) that come after `last`; NOBODY if there is none.
fn next_best(begin: u32, end: u32, last: Candidate, is_first: bool, i: u32) -> Candidate {
    var best = NOBODY;
    for (var j = begin + i; j < end; j += WG) {
        let c = candidate(j);
        if ((is_first || is_before(last, c)) && is_before(c, best)) {
            best = c;
        }
    }
    return first_of(best, i);
}
