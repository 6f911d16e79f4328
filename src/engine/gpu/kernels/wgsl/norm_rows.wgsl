// The rows that a norm is for, where they are told. batch: see batch.rs
fn row_of(t: u32) -> u32 {
    return batch[params.rows_at + t].x;
}
