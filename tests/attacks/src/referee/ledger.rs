//! The ledger: what the machine has in use, which must be the same after any number of lives.

use crate::Arena;
use alloc::{format, string::String};
use rt::abi::operation::HardwareFact;

/// What the machine's services may draw in advance: a batch of each resource for each of them, but no thread.
const DRAWN: [u64; 4] = [48, 24, 96, 0];

/// What is in use: frames, objects, slots, threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ledger([u64; 4]);

impl Ledger {
    /// Reads it.
    pub(crate) fn read(arena: &Arena) -> Self {
        let fact = |fact| arena.hardware.fact(fact).unwrap_or(u64::MAX);
        Self([
            fact(HardwareFact::UsedFrames),
            fact(HardwareFact::Objects),
            fact(HardwareFact::UsedSlots),
            fact(HardwareFact::UsedThreads),
        ])
    }

    /// Waits until nothing is in use that was not before, but for what services have drawn in advance.
    pub(crate) fn settle(self, arena: &Arena) -> Result<(), String> {
        let is_back = || {
            Self::read(arena)
                .0
                .iter()
                .zip(self.0)
                .zip(DRAWN)
                .all(|((now, before), drawn)| *now <= before + drawn)
        };
        if arena.client.wait(30_000_000_000, is_back) {
            return Ok(());
        }
        Err(format!("left behind: {:?} became {:?}", self, Self::read(arena)))
    }
}
