//! Starts of `nothing` while other compartments exist and wait.

use super::{IDLE, start, starts};
use crate::{
    Bench,
    client::{Created, Failure},
};
use alloc::{format, vec::Vec};

/// Idle compartments present.
const PRESENT: [usize; 4] = [0, 50, 100, 500];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let mut present: Vec<Created> = Vec::new();
    for wanted in PRESENT {
        fill(bench, &mut present, wanted)?;
        starts(bench, &format!("compartment.idle{wanted}"), 1, 20, 1)?;
    }
    Ok(())
}

/// A few starts beside the most idle compartments, of which the last lies between the marks.
pub(super) fn profile(bench: &mut Bench) -> Result<(), Failure> {
    fill(bench, &mut Vec::new(), PRESENT[PRESENT.len() - 1])?;
    start::profile(bench)
}

/// Creates idle compartments until as many are there as wanted.
fn fill(bench: &mut Bench, present: &mut Vec<Created>, wanted: usize) -> Result<(), Failure> {
    while present.len() < wanted {
        let created = bench.client.create(IDLE, false)?;
        bench.client.wait_for_start(&created)?;
        present.push(created);
    }
    Ok(())
}
