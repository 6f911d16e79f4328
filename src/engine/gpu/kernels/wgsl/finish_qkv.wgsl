// Query to its buffer [T][H][D'], key and value to the cache [S][2][H][D'], from where they are never moved again.
fn finish(t: u32, r: u32, y: f32) {
    let c = r % C;
    let at = c / D * D_PADDED + c % D;
    switch (r / C) {
        case 0u: { result[t * H * D_PADDED + at] = y; }
        case 1u: { cache[(params.n_past + t) * 2u * H * D_PADDED + at] = y; }
        default: { cache[((params.n_past + t) * 2u + 1u) * H * D_PADDED + at] = y; }
    }
}
