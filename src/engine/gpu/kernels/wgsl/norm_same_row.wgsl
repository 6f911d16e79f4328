fn norm_row(t: u32) -> u32 {
    return row_of(t);
}
