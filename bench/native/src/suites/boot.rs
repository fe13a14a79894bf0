//! The boot: from reset, when the time stamp counter is zero, to each party's first instruction.

use super::NOTHING;
use crate::{Bench, client::Failure, sample};
use rt::{abi::operation::HardwareFact, startup};

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let kernel = bench.hardware.fact(HardwareFact::FirstInstruction)?;
    let root = startup::value("root.first_instruction").unwrap_or(0);
    let created = bench.client.create(NOTHING, false)?;
    for ended in bench.client.wait(&[created])? {
        match ended.first_instruction() {
            Some(first) => sample::report_times("boot.linux", "ticks", &mut [first]),
            None => rt::log!("WARN boot.linux: {}", ended.account()),
        }
    }
    sample::report_times("boot.kernel", "ticks", &mut [kernel]);
    sample::report_times("boot.root", "ticks", &mut [root]);
    Ok(())
}
