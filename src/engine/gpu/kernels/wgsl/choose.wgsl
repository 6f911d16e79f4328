// The k best of all pieces, and one of them as the next token. One workgroup. tops: as top_k.wgsl leaves them.
// → choice: id, whether a logit is not finite, k, 0, then k times (id, logit); and the id as input of the next pass.
var<workgroup> ranked: array<Candidate, MAX_K>;

fn candidate(j: u32) -> Candidate {
    let top = tops[j / params.k * MAX_K + j % params.k];
    return Candidate(top.x, bitcast<f32>(top.y));
}

fn weight(rank: u32) -> f32 {
    return exp((ranked[rank].logit - ranked[0].logit) * params.inverse_temperature);
}

// top_p and min_p as in sampler/mod.rs: shares of what is left after top_k; the coin walks from the most likely down.
fn sampled(n: u32) -> u32 {
    var whole = 0.0;
    for (var rank = 0u; rank < n; rank++) {
        whole += weight(rank);
    }
    let enough = select(-LOWEST, params.top_p * whole, params.top_p < 1.0);
    var kept = 0.0;
    var n_kept = 0u;
    while (n_kept < n && (n_kept == 0u || (kept < enough && weight(n_kept) >= params.min_p))) {
        kept += weight(n_kept);
        n_kept++;
    }
    var sum = 0.0;
    for (var rank = 0u; rank + 1u < n_kept; rank++) {
        sum += weight(rank);
        if (sum > params.coin * kept) {
            return rank;
        }
    }
    return n_kept - 1u;
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) i: u32) {
    var last = NOBODY;
    var n = 0u;
    for (var round = 0u; round < params.k; round++) {
        last = next_best(0u, N_PIECES * params.k, last, round == 0u, i);
        n += select(0u, 1u, last.id != NOBODY.id);
        if (i == 0u) {
            ranked[round] = last;
            choice[4u + 2u * round] = last.id;
            choice[5u + 2u * round] = bitcast<u32>(last.logit);
        }
    }
    if (i == 0u) {
        var n_bad = 0u;
        for (var piece = 0u; piece < N_PIECES; piece++) {
            n_bad += tops[N_PIECES * MAX_K + piece].x;
        }
        var rank = 0u;
        if (params.do_sample != 0u && n > 0u) {
            rank = sampled(min(n, params.top_k));
        }
        // an id to go on with even where nothing could be ranked: the host sees `n_bad` and takes it back
        let id = min(ranked[rank].id, V - 1u);
        choice[0] = id;
        choice[1] = n_bad;
        choice[2] = params.k;
        ids[0] = id;
    }
}
