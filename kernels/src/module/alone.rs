//! A team of one thread, for modules without shared memory.

use core::sync::atomic::AtomicU32;

use super::{clock, profile};
use crate::forward::Pass;
use crate::op::Op;
use crate::team::Platform;

/// The browser as a platform for one thread, which waits for nobody.
enum Browser {}

impl Platform for Browser {
    fn sleep(_: &AtomicU32, _: u32) {}
    fn wake(_: &AtomicU32) {}
    fn done(op: Op) {
        profile::done(op);
    }
    fn should_pause() -> bool {
        clock::is_late()
    }
}

/// Runs the pass.
pub fn run(pass: &Pass) {
    profile::begin();
    pass.run::<Browser>(0);
}
