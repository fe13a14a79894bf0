//! Starts of `nothing`: one after the other, then several at once.

use super::starts;
use crate::{Bench, client::Failure};
use alloc::format;

/// Compartments at once, and rounds of them; the Linux side has as many.
const PARALLEL: [(usize, usize); 6] = [(2, 16), (4, 16), (8, 6), (16, 6), (32, 3), (64, 3)];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let rounds = if bench.quick { 20 } else { 40 };
    starts(bench, "compartment.seq", 1, rounds, 3)?;
    for (parallel, rounds) in PARALLEL {
        starts(bench, &format!("compartment.par{parallel}"), parallel, rounds, 1)?;
    }
    Ok(())
}

/// A few starts, of which the last lies between the marks.
pub(super) fn profile(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.seq", 1, 4, 3)
}
