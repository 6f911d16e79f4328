// fp32: 16 bytes hold 4 values.
const QUADS: u32 = 1u;

// The j-th four values of a chunk.
fn quad(chunk: vec4<u32>, j: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(chunk);
}

const HAS_BLOCKS: bool = false;

fn block_scale(group: u32, row: u32, chunk: u32) -> f32 {
    return 1.0;
}

fn row_scale(r: u32) -> f32 {
    return 1.0;
}
