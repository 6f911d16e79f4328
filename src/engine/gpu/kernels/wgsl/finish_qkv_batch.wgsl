// Queries, keys and values of a pass over several texts. result: [T][3][H][D']
fn finish(t: u32, r: u32, y: f32) {
    let c = r % C;
    result[(t * 3u + r / C) * H * D_PADDED + c / D * D_PADDED + c % D] = y;
}
