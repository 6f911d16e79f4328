// The k best of all pieces, and one of them as the next token. One workgroup. tops: as top_k.wgsl leaves them.
// → choice: id, whether a logit is not finite, k, whether the whole vocabulary was drawn from, then k times (id, logit), of
// which such a draw takes the second and third: the shares of all ids before the token's, and with it. And the id as
// input of the next pass.
var<workgroup> ranked: array<Candidate, MAX_K>;
var<workgroup> pieces: array<f32, N_PIECES>;
var<workgroup> drawn_piece: u32;
var<workgroup> shares: vec2<f32>; // before the piece, and of all
var<workgroup> drawn_id: u32;
var<workgroup> drawn: vec2<f32>;  // the shares of all ids before it, and with it

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

// A token of the whole vocabulary, by the coin: first its piece, then the thread that has it, then the token.
fn draw(i: u32) {
    let best = ranked[0].logit;
    for (var p = i; p < N_PIECES; p += WG) {
        let top = tops[p * MAX_K];
        let weighed = bitcast<f32>(tops[N_PIECES * MAX_K + p].y);
        // a piece at the end of a small vocabulary may be empty
        let scale = exp((bitcast<f32>(top.y) - best) * params.inverse_temperature);
        pieces[p] = select(weighed * scale, 0.0, top.x == NOBODY.id);
    }
    workgroupBarrier();
    if (i == 0u) {
        var whole = 0.0;
        for (var p = 0u; p < N_PIECES; p++) {
            whole += pieces[p];
        }
        let target_weight = params.coin * whole;
        var before = 0.0;
        var p = 0u;
        while (p + 1u < N_PIECES && before + pieces[p] <= target_weight) {
            before += pieces[p];
            p++;
        }
        drawn_piece = p;
        shares = vec2<f32>(before, whole);
    }
    workgroupBarrier();
    let begin = min(drawn_piece * PIECE, V);
    let end = min(begin + PIECE, V);
    let mine = sum_of(begin, end, best, i);
    workgroupBarrier(); // nobody reads an older sum
    parts[i] = mine;
    workgroupBarrier();
    if (i == 0u) {
        let target_weight = params.coin * shares.y;
        var before = shares.x;
        var t = 0u;
        while (t + 1u < WG && before + parts[t] <= target_weight) {
            before += parts[t];
            t++;
        }
        let share = share_of(begin, end, t);
        var id = min(share.x, V - 1u);
        var weight = exp((logits[id] - best) * params.inverse_temperature);
        while (id + 1u < share.y && before + weight <= target_weight) {
            before += weight;
            id++;
            weight = exp((logits[id] - best) * params.inverse_temperature);
        }
        drawn_id = id;
        drawn = vec2<f32>(before, before + weight) / shares.y;
    }
    workgroupBarrier();
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
    workgroupBarrier();
    if (params.whole != 0u) {
        draw(i);
    }
    if (i == 0u) {
        var n_bad = 0u;
        for (var piece = 0u; piece < N_PIECES; piece++) {
            n_bad += tops[N_PIECES * MAX_K + piece].x;
        }
        var rank = 0u;
        if (params.do_sample != 0u && params.whole == 0u && n > 0u) {
            rank = sampled(min(n, params.top_k));
        }
        // an id to go on with even where nothing could be ranked: the host sees `n_bad` and takes it back
        var id = min(ranked[rank].id, V - 1u);
        if (params.whole != 0u) {
            id = drawn_id;
            choice[7] = bitcast<u32>(drawn.x);
            choice[9] = bitcast<u32>(drawn.y);
        }
        choice[0] = id;
        choice[1] = n_bad;
        choice[2] = params.k;
        choice[3] = params.whole;
        ids[0] = id;
    }
}
