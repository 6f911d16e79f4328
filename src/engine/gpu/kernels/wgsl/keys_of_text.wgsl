// Where an attention over one text finds its numbers. q: [T][H][D'] of vec4; cache: [S][2][H][D'] of vec4.

// New tokens that a workgroup works on: `n` from `first` on, after `n_past` of their text.
struct Tokens {
    first: u32,
    n: u32,
    n_past: u32,
}

fn single(t: u32) -> Tokens {
    return Tokens(t, 1u, params.n_past + t);
}

fn block(x: u32) -> Tokens {
    let first = x * BLOCK_TOKENS;
    return Tokens(first, min(BLOCK_TOKENS, params.n_new - first), params.n_past + first);
}

fn is_mine(tokens: Tokens) -> bool {
    return true;
}

fn open_text(tokens: Tokens) {}

fn query_at(t: u32, head: u32, lane: u32) -> vec4<f32> {
    return q[(t * H + head) * LANES + lane];
}

fn key_at(key: u32, head: u32, lane: u32) -> vec4<f32> {
    return cache[(key * 2u * H + head) * LANES + lane];
}

fn value_at(key: u32, head: u32, lane: u32) -> vec4<f32> {
    return cache[((key * 2u + 1u) * H + head) * LANES + lane];
}

// Their keys and values are in the cache already.
fn keep(tokens: Tokens, head: u32, i: u32) {}
