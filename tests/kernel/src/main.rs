//! The kernel's suite: every operation for success and for each of its errors, then everything a hostile program may try, in the machine itself.
//!
//! Owns: the cases and their order. Must not know: how the kernel does anything; it sees what any native program sees, and holds the Hardware capability.
//! One line per case on the log, `test NAME ... ok` or `FAILED (why)`, then `N passed, M failed`; the machine's exit status is 0 when all passed.
//! The kernel command line chooses: `suite=TEXT` runs the cases whose names contain TEXT and `seed=N` seeds the random ones.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[expect(dead_code, reason = "some of it only the assistant uses")]
mod act;
mod cases;
mod check;
mod gadget;
mod guest;
mod run;
mod world;

rt::entry!(main);

fn main() {
    run::all();
}
