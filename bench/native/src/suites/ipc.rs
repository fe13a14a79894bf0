//! What a call of another service and its answer cost.

use super::NOTHING;
use crate::{Bench, client::Failure, mark, sample};
use alloc::{string::ToString, vec::Vec};
use rt::{Gate, clock, message::Message, startup};

/// Batches that count, after one that does not, and calls in each.
const BATCHES: usize = 11;
const CALLS: u64 = 200;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    // After a start the services have nothing left to do.
    let created = bench.client.create(NOTHING, false)?;
    bench.client.wait(&[created])?;
    let gate = startup::capability("echo").map(Gate);
    let gate = gate.ok_or_else(|| Failure("there is no capability \"echo\"".to_string()))?;
    let mut each = Vec::new();
    for batch in 0..=BATCHES {
        if batch == BATCHES {
            mark::begin();
        }
        let begun = clock::now();
        for _ in 0..CALLS {
            gate.call(Message::new(1, [1, 2, 3, 4]), 0)?;
        }
        let took = clock::now() - begun;
        if batch == BATCHES {
            mark::end();
        }
        if batch > 0 {
            each.push(took / CALLS);
        }
    }
    sample::report_times("ipc.call", "op", &mut each);
    Ok(())
}
