// What changes from pass to pass; written by the host before each one.
struct Params {
    n_past: u32,        // tokens that the cache holds already
    n_new: u32,         // T, the tokens of this pass
    n_rows: u32,        // batch: of so many tokens the logits are wanted
    blocks_at: u32,     // batch: where the blocks of tokens are told
    rows_at: u32,       // batch: where they are told, if they are many
    k: u32,             // choose: how many of the best logits are told
    do_sample: u32,     // choose: 0 takes the best one
    inverse_temperature: f32,
    top_p: f32,
    min_p: f32,
    coin: f32,          // uniform in [0, 1)
    top_k: u32,         // choose: how many of these are drawn from
    whole: u32,         // choose: 1 draws from the whole vocabulary
    unused_1: u32,
    unused_2: u32,
    unused_3: u32,
    rows: array<vec4<u32>, 2>, // batch: those tokens, if they are few
}

// Below every score that a model computes, and far enough from the end of f32 that differences stay finite.
const LOWEST: f32 = -1e30;
