// The tokens of a pass over one text: its newest ones.
fn n_tokens() -> u32 {
    return params.n_new;
}

fn row_of(t: u32) -> u32 {
    return t;
}

fn position_of(t: u32) -> u32 {
    return params.n_past + t;
}
