//! One thread.

use core::sync::atomic::AtomicU32;

use super::{Pass, clock, profile};
use crate::forward::Op;
use crate::team::Platform;

/// Nobody to wait for.
enum Alone {}

impl Platform for Alone {
    fn sleep(_: &AtomicU32, _: u32) {}
    fn wake(_: &AtomicU32) {}
    fn done(op: Op) {
        profile::done(op);
    }
    fn should_pause() -> bool {
        clock::is_late()
    }
}

pub fn run(pass: &Pass) {
    profile::begin();
    pass.run::<Alone>(0);
}
