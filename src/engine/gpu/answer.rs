//! An answer that a callback gives once, as a future: `wgpu` tells of finished work through callbacks.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Locks a mutex whose content is whole at any time, also after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known, and who waits for it.
struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// An answer that may not be there yet.
pub(super) struct Answer<T>(Arc<Mutex<State<T>>>);

impl<T: Send + 'static> Answer<T> {
    /// An answer, and the callback that gives it.
    pub fn new() -> (Self, impl FnOnce(T) + Send + 'static) {
        let state = Arc::new(Mutex::new(State { value: None, waker: None }));
        let told = state.clone();
        let tell = move |value| {
            let mut state = lock(&told);
            state.value = Some(value);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        };
        (Self(state), tell)
    }

    /// Waits for it.
    pub async fn wait(self) -> T {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            match state.value.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
