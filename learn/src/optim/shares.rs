//! One buffer in equal shares, a thread for each.

/// Too little work for a thread of its own.
const LEAST: usize = 1 << 16;

/// Cuts `whole`, of `len` elements, into shares and works on each in a thread.
pub fn in_shares<T: Send>(
    whole: T,
    len: usize,
    n_threads: usize,
    split: impl Fn(T, usize) -> (T, T),
    work: impl Fn(T) + Sync,
) {
    let n_shares = n_threads.min(len / LEAST).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let (mut rest, mut len) = (whole, len);
        for n_left in (2..=n_shares).rev() {
            let n = len / n_left;
            let (share, after) = split(rest, n);
            scope.spawn(move || work(share));
            (rest, len) = (after, len - n);
        }
        work(rest);
    });
}
