fn id_of(t: u32) -> u32 {
    return batch[t].x;
}
