//! Where the leader's time goes, when somebody asks: one look at a flag after each op otherwise.

use core::cell::UnsafeCell;

use super::LeaderOnly;
use super::clock::now;
use crate::forward::Op;

struct Profile {
    is_on: bool,
    last_ms: f64,
    /// By [`Op`].
    op_ms: [f64; Op::ALL.len()],
}

static PROFILE: LeaderOnly<Profile> =
    LeaderOnly(UnsafeCell::new(Profile { is_on: false, last_ms: 0.0, op_ms: [0.0; Op::ALL.len()] }));

fn profile() -> &'static mut Profile {
    // SAFETY: the leader alone calls what follows, and none of it calls another part of it meanwhile
    unsafe { &mut *PROFILE.0.get() }
}

/// A pass begins.
pub fn begin() {
    let profile = profile();
    if profile.is_on {
        profile.last_ms = now();
    }
}

/// The time since the op before belongs to this one.
pub fn done(op: Op) {
    let profile = profile();
    if profile.is_on {
        let now_ms = now();
        profile.op_ms[op as usize] += now_ms - profile.last_ms;
        profile.last_ms = now_ms;
    }
}

/// Begins a profile, or ends it.
#[unsafe(no_mangle)]
extern "C" fn set_profile(is_on: u32) {
    let profile = profile();
    profile.is_on = is_on != 0;
    if profile.is_on {
        profile.op_ms = [0.0; Op::ALL.len()];
    }
}

/// Where the milliseconds of each op lie, summed over layers and passes: f64, in the order of [`Op`].
#[unsafe(no_mangle)]
extern "C" fn op_ms() -> *const f64 {
    profile().op_ms.as_ptr()
}
