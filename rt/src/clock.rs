//! Time: ticks of the time stamp counter and nanoseconds since boot.

use crate::arch;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Operation;

static RATE: AtomicU64 = AtomicU64::new(0);
static BOOT: AtomicU64 = AtomicU64::new(0);
static WORTH: AtomicU64 = AtomicU64::new(0);

/// Bits of fraction in what a tick is worth.
pub const FRACTION: u32 = 58;

fn load() -> (u64, u64, u64) {
    // ORDERING: pairs with the store below: whoever sees the rate sees the rest.
    let rate = RATE.load(Ordering::Acquire);
    if rate != 0 {
        return (rate, BOOT.load(Ordering::Relaxed), WORTH.load(Ordering::Relaxed));
    }
    let (rate, boot, _) = arch::call(Operation::Clock, [0; 6]).unwrap_or((1_000_000_000, 0, 0));
    let rate = rate.max(1);
    let worth =
        u64::try_from((1_000_000_000_u128 << FRACTION) / u128::from(rate)).unwrap_or(u64::MAX);
    BOOT.store(boot, Ordering::Relaxed);
    WORTH.store(worth, Ordering::Relaxed);
    // ORDERING: last, and releases what was stored before.
    RATE.store(rate, Ordering::Release);
    (rate, boot, worth)
}

/// Ticks in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    load().0
}

/// The tick at which time since boot begins.
#[must_use]
pub fn at_boot() -> u64 {
    load().1
}

/// Nanoseconds that a tick is worth, in units of `1 / (1 << FRACTION)`.
#[must_use]
pub fn nanoseconds_per_tick() -> u64 {
    load().2
}

/// Now, in ticks.
#[inline]
#[must_use]
pub fn now() -> u64 {
    arch::time_stamp()
}

/// Nanoseconds of a number of ticks.
#[inline]
#[must_use]
pub fn nanoseconds(ticks: u64) -> u64 {
    u64::try_from((u128::from(ticks) * u128::from(load().2)) >> FRACTION).unwrap_or(u64::MAX)
}

/// Ticks of a number of nanoseconds, rounded up.
#[must_use]
pub fn ticks(nanoseconds: u64) -> u64 {
    ticks_at(ticks_per_second(), nanoseconds)
}

/// The nanoseconds that [`ticks`] made a number of. Unlike [`nanoseconds`], which is quick and may come out one short, it divides by the rate.
#[must_use]
pub fn nanoseconds_asked(ticks: u64) -> u64 {
    nanoseconds_at(ticks_per_second(), ticks)
}

fn ticks_at(rate: u64, nanoseconds: u64) -> u64 {
    let ticks = (u128::from(nanoseconds) * u128::from(rate)).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn nanoseconds_at(rate: u64, ticks: u64) -> u64 {
    let nanoseconds = (u128::from(ticks) * 1_000_000_000).checked_div(rate.into());
    u64::try_from(nanoseconds.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// Nanoseconds since boot.
#[must_use]
pub fn since_boot() -> u64 {
    nanoseconds(now().saturating_sub(at_boot()))
}

/// The deadline that many nanoseconds from now; `u64::MAX` stays "never".
#[must_use]
pub fn deadline_in(nanoseconds: u64) -> u64 {
    if nanoseconds == u64::MAX { u64::MAX } else { now().saturating_add(ticks(nanoseconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_told_again() {
        for rate in [1_000_000_000, 1_000_000_007, 2_399_999_999, 2_450_000_123, 4_700_000_001] {
            for nanoseconds in [1, 999, 1000, 10_000_000, 50_000_001, 3_600_000_000_000] {
                assert_eq!(nanoseconds_at(rate, ticks_at(rate, nanoseconds)), nanoseconds);
            }
        }
        assert_eq!(nanoseconds_at(0, 5), 0);
    }
}
