//! The kernel's counters: what happened how often, per CPU, read as sums.

use crate::atomic::{AtomicU64, Ordering};
use crate::{MAX_CPUS, cpu};

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident $text:literal, )*) => {
        /// A counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $( $(#[$doc])* $name, )* }
        /// The counters' names, at most 16 bytes each.
        const NAMES: &[&str] = &[ $( $text, )* ];
    };
}

counters! {
    /// Operations.
    Operations "operations",
    /// Faults that gave a demand-zero page its frame.
    ZeroFaults "zero faults",
    /// Faults that broke copy-on-write.
    CopyFaults "copy faults",
    /// Faults handed to a personality.
    GuestFaults "guest faults",
    /// Exits of guests on the slow path.
    GuestExits "guest exits",
    /// Flushes on other CPUs.
    Shootdowns "shootdowns",
    /// Switches to another thread.
    Switches "switches",
    /// Calls that went straight to a waiting server.
    DirectCalls "direct calls",
    /// Calls that had to wait in a queue.
    QueuedCalls "queued calls",
    /// Threads stolen from another CPU.
    Steals "steals",
    /// Interrupts of devices.
    Interrupts "interrupts",
    /// Slices of the reaper.
    ReaperSlices "reaper slices",
    /// Threads held back because their Domain's time was used up.
    Throttles "throttles",
    /// Interrupts sent to other CPUs.
    CrossInterrupts "cross interrupts",
    /// Locks that were held by another CPU when they were wanted.
    Contended "contended locks",
    /// Locks taken; counted in debug builds only.
    Locks "locks",
}

/// Number of counters.
pub const COUNT: usize = NAMES.len();

#[repr(align(64))]
struct Values([AtomicU64; COUNT]);

static VALUES: [Values; MAX_CPUS] = [const { Values([const { AtomicU64::new(0) }; COUNT]) }; MAX_CPUS];

/// Adds to this CPU's share of a counter.
#[inline]
pub fn add(counter: Counter, amount: u64) {
    // The share is written by its own CPU only, so no read-modify-write instruction is needed.
    let value = &VALUES[cpu() % MAX_CPUS].0[counter as usize];
    value.store(value.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// The sum of a counter and its name in two words.
#[must_use]
pub fn read(index: usize) -> Option<(u64, [u64; 2])> {
    let name = NAMES.get(index)?;
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let word = u128::from_le_bytes(bytes);
    let values = VALUES.iter().filter_map(|values| values.0.get(index));
    let sum = values.map(|value| value.load(Ordering::Relaxed)).sum();
    Some((sum, [word as u64, (word >> 64) as u64]))
}
