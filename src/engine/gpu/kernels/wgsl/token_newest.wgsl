// The newest token of a pass over one text.
fn n_tokens() -> u32 {
    return 1u;
}

fn row_of(t: u32) -> u32 {
    return params.n_new - 1u;
}

fn position_of(t: u32) -> u32 {
    return params.n_past + params.n_new - 1u;
}
