// Where an attention over several texts finds its numbers: those of new tokens in qkv, [T][3][H][D'] of vec4, the others
// in their text's cache, [S][2][H][D'] of vec4. A dispatch has the caches of CACHES_AT_ONCE (4) texts, from
// FIRST_TEXT on.

// New tokens of one text that a workgroup works on: `n` from `first` on, after `n_past` of their text.
struct Tokens {
    first: u32,
    n: u32,
    n_past: u32,
}

var<private> text: u32;
var<private> n_cached: u32;
var<private> first_new: u32;

fn single(t: u32) -> Tokens {
    return Tokens(t, 1u, batch[t].y);
}

fn block(x: u32) -> Tokens {
    let told = batch[params.blocks_at + x];
    return Tokens(told.x, told.y, batch[told.x].y);
}

// Whether this dispatch has their cache.
fn is_mine(tokens: Tokens) -> bool {
    return batch[tokens.first].z / CACHES_AT_ONCE == FIRST_TEXT / CACHES_AT_ONCE;
}

fn open_text(tokens: Tokens) {
    let token = batch[tokens.first];
    text = token.z - FIRST_TEXT;
    first_new = token.w;
    n_cached = tokens.n_past - (tokens.first - first_new);
}

fn cached(i: u32) -> vec4<f32> {
    switch (text) {
        case 0u: { return cache_0[i]; }
        case 1u: { return cache_1[i]; }
        case 2u: { return cache_2[i]; }
        default: { return cache_3[i]; }
    }
}

fn store(i: u32, x: vec4<f32>) {
    switch (text) {
        case 0u: { cache_0[i] = x; }
        case 1u: { cache_1[i] = x; }
        case 2u: { cache_2[i] = x; }
        default: { cache_3[i] = x; }
    }
}

fn query_at(t: u32, head: u32, lane: u32) -> vec4<f32> {
    return qkv[(t * 3u * H + head) * LANES + lane];
}

fn key_at(key: u32, head: u32, lane: u32) -> vec4<f32> {
    if (key < n_cached) {
        return cached((key * 2u * H + head) * LANES + lane);
    }
    return qkv[(((first_new + key - n_cached) * 3u + 1u) * H + head) * LANES + lane];
}

fn value_at(key: u32, head: u32, lane: u32) -> vec4<f32> {
    if (key < n_cached) {
        return cached(((key * 2u + 1u) * H + head) * LANES + lane);
    }
    return qkv[(((first_new + key - n_cached) * 3u + 2u) * H + head) * LANES + lane];
}

// Appends their keys and values to the cache. Nobody reads them there in this dispatch.
fn keep(tokens: Tokens, head: u32, i: u32) {
    for (var j = i; j < tokens.n * LANES; j += WG) {
        let key = tokens.n_past + j / LANES;
        let lane = j % LANES;
        store((key * 2u * H + head) * LANES + lane, key_at(key, head, lane));
        store(((key * 2u + 1u) * H + head) * LANES + lane, value_at(key, head, lane));
    }
}
