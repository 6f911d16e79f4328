// Of a pass over several texts the tokens whose logits are wanted, where they are few.
fn n_tokens() -> u32 {
    return params.n_rows;
}

fn row_of(t: u32) -> u32 {
    let row = min(t, params.n_rows - 1u);
    return params.rows[row / 4u][row % 4u];
}
