//! The two places between which a profile is taken: `cargo xtask bench --profile` stops the machine there, by their names.

use core::hint::black_box;

/// What is profiled begins.
#[inline(never)]
pub(crate) fn begin() {
    black_box(1_u8);
}

/// What is profiled has ended.
#[inline(never)]
pub(crate) fn end() {
    black_box(2_u16);
}
