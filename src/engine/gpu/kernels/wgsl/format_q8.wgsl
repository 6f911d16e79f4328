// q8: 16 bytes hold 16 signed bytes; a scale per row.
const QUADS: u32 = 4u;

// The j-th four values of a chunk, unscaled.
fn quad(chunk: vec4<u32>, j: u32) -> vec4<f32> {
    // each byte to the top, then down again with its sign
    let bytes = bitcast<vec4<i32>>(vec4<u32>(chunk[j]) << vec4<u32>(24u, 16u, 8u, 0u));
    return vec4<f32>(bytes >> vec4<u32>(24u));
}

const HAS_BLOCKS: bool = false;

fn block_scale(group: u32, row: u32, chunk: u32) -> f32 {
    return 1.0;
}

fn row_scale(r: u32) -> f32 {
    return bitcast<f32>(rest[ROW_SCALES + r]);
}
