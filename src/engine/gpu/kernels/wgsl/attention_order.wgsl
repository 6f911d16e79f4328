// The order of an attention's sums, which is the same for one token and for many: keys are taken 64 at a time from
// position 0, each tile with its own largest score; its weights are summed as in total.wgsl, its values in four parts
// of 16 keys. Tiles are folded one after the other into pieces of PIECE_TILES, and pieces into the whole (online
// softmax, Milakov & Gimelshein 2018).
const TILE_KEYS: u32 = 64u;
const PART_KEYS: u32 = 16u;
const PIECE_KEYS: u32 = TILE_KEYS * PIECE_TILES;

// What a weight relative to the score `old` is worth relative to `now`, exactly 1 where nothing has changed. Whatever
// has no keys has LOWEST, and is worth nothing.
fn decay(old: f32, now: f32) -> f32 {
    return select(exp(old - now), 1.0, old == now);
}
