//! How long each part of a pass takes. While no profile is taken, it costs a look at a flag after each part.

use core::cell::UnsafeCell;

use super::clock::now;
use super::leader_only::LeaderOnly;
use crate::op::Op;

struct Profile {
    is_on: bool,
    last_ms: f64,
    /// Milliseconds of each [`Op`].
    op_ms: [f64; Op::ALL.len()],
}

static PROFILE: LeaderOnly<Profile> =
    LeaderOnly(UnsafeCell::new(Profile { is_on: false, last_ms: 0.0, op_ms: [0.0; Op::ALL.len()] }));

fn profile() -> &'static mut Profile {
    // SAFETY: only the leader calls the functions below, and none of them calls another
    unsafe { &mut *PROFILE.0.get() }
}

/// A pass begins: from now on, time belongs to its first part.
pub fn begin() {
    let profile = profile();
    if profile.is_on {
        profile.last_ms = now();
    }
}

/// An op is done: the time since the previous one belongs to it.
pub fn done(op: Op) {
    let profile = profile();
    if profile.is_on {
        let now_ms = now();
        profile.op_ms[op as usize] += now_ms - profile.last_ms;
        profile.last_ms = now_ms;
    }
}

/// Starts a new profile, or stops it.
#[unsafe(no_mangle)]
extern "C" fn set_profile(is_on: u32) {
    let profile = profile();
    profile.is_on = is_on != 0;
    if profile.is_on {
        profile.op_ms = [0.0; Op::ALL.len()];
    }
}

/// Where the milliseconds of each op lie, summed over layers and passes: f64, in the order of [`Op::ALL`].
#[unsafe(no_mangle)]
extern "C" fn op_ms() -> *const f64 {
    profile().op_ms.as_ptr()
}
