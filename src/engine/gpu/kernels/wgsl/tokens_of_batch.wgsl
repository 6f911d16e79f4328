// The tokens of a pass over several texts, one text's after another's. batch: of each token its id, its position, its
// text and the first new token of that text; then blocks and rows, see batch.rs.
fn n_tokens() -> u32 {
    return params.n_new;
}

fn row_of(t: u32) -> u32 {
    return min(t, params.n_new - 1u);
}

fn position_of(t: u32) -> u32 {
    return batch[min(t, params.n_new - 1u)].y;
}
