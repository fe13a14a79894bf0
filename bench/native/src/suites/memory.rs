//! What an idle compartment costs: from the kernel's own account of it, and from what is missing in the whole machine.

use super::IDLE;
use crate::{
    Bench,
    client::{Created, Failure},
    sample,
};
use alloc::vec::Vec;
use rt::abi::{PAGE_SIZE, operation::HardwareFact};

/// Idle compartments.
const COUNT: usize = 50;
/// Nanoseconds for what is given back late.
const SETTLING: u64 = 500_000_000;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let hardware = bench.hardware;
    let free = || hardware.fact(HardwareFact::FreeFrames).map(|frames| frames * PAGE_SIZE);
    let total = hardware.fact(HardwareFact::TotalFrames)? * PAGE_SIZE;
    rt::log!("M memory.machine total={total} free={}", free()?);
    // The first one fills tables and caches that stay.
    let first = begin(bench)?;
    let before = free()?;
    let mut present = Vec::new();
    for _ in 0..COUNT {
        present.push(begin(bench)?);
    }
    let missing = before.saturating_sub(free()?);
    sample::report("memory.machine", "bytes", &mut [missing / COUNT as u64]);
    let (mut bytes, mut objects, mut slots, mut threads) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for compartment in &present {
        let stat = bench.client.stat(compartment)?;
        bytes.push(stat.memory.0);
        objects.push(stat.objects);
        slots.push(stat.slots);
        threads.push(stat.threads.0);
    }
    sample::report("memory.domain", "bytes", &mut bytes);
    sample::report("memory.domain", "objects", &mut objects);
    sample::report("memory.domain", "slots", &mut slots);
    sample::report("memory.domain", "threads", &mut threads);
    present.push(first);
    for compartment in &present {
        bench.client.destroy(compartment)?;
    }
    bench.client.wait(&present)?;
    // The ports of this program, which are nobody's any more, are given back when nothing else is to do.
    let _ = rt::thread::park_until(rt::clock::deadline_in(SETTLING));
    let left = before.saturating_sub(free()?);
    rt::log!("M memory.left bytes={left}");
    Ok(())
}

fn begin(bench: &mut Bench) -> Result<Created, Failure> {
    let created = bench.client.create(IDLE, false)?;
    bench.client.wait_for_start(&created)?;
    Ok(created)
}
