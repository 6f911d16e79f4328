// q4: 16 bytes hold 32 nibbles, 0..15 for -8..7: the low ones are columns 0..15 of the block, the high ones 16..31.
// A half per block, [R'/4][K'/32][4], and a power of two per row.
const QUADS: u32 = 8u;

// The j-th four values of a chunk, unscaled.
fn quad(chunk: vec4<u32>, j: u32) -> vec4<f32> {
    let nibbles = vec4<u32>(chunk[j % 4u] >> (4u * (j / 4u))) >> vec4<u32>(0u, 8u, 16u, 24u);
    return vec4<f32>(nibbles & vec4<u32>(15u)) - 8.0;
}

const HAS_BLOCKS: bool = true; // of 32 columns, each with a scale

fn block_scale(group: u32, row: u32, chunk: u32) -> f32 {
    let halves = unpack2x16float(rest[(group * STEPS + chunk) * 2u + row / 2u]);
    return select(halves.x, halves.y, row % 2u == 1u);
}

fn row_scale(r: u32) -> f32 {
    return bitcast<f32>(rest[ROW_SCALES + r]);
}
