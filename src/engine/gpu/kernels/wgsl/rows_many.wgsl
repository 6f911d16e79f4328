// Of a pass over several texts the tokens whose logits are wanted, where they are many.
fn n_tokens() -> u32 {
    return params.n_rows;
}
