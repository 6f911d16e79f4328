// fp16: 16 bytes hold 8 halves; a power of two per row. unpack2x16float needs no `shader-f16`.
const QUADS: u32 = 2u;

// The j-th four values of a chunk, unscaled.
fn quad(chunk: vec4<u32>, j: u32) -> vec4<f32> {
    let words = select(chunk.xy, chunk.zw, j == 1u);
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

const HAS_BLOCKS: bool = false;

fn block_scale(group: u32, row: u32, chunk: u32) -> f32 {
    return 1.0;
}

fn row_scale(r: u32) -> f32 {
    return bitcast<f32>(rest[ROW_SCALES + r]);
}
