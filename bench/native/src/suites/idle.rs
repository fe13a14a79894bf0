//! Starts of `nothing` while other compartments exist and wait.

use super::{IDLE, starts};
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
        while present.len() < wanted {
            let created = bench.client.create(IDLE, false)?;
            bench.client.wait_for_start(&created)?;
            present.push(created);
        }
        starts(bench, &format!("compartment.idle{wanted}"), 1, 20, 1)?;
    }
    Ok(())
}
