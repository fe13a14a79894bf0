//! Time: ticks of the time stamp counter and nanoseconds since boot.

use crate::arch;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::Operation;

static RATE: AtomicU64 = AtomicU64::new(0);
static BOOT: AtomicU64 = AtomicU64::new(0);

fn load() -> (u64, u64) {
    let rate = RATE.load(Ordering::Relaxed);
    if rate != 0 {
        return (rate, BOOT.load(Ordering::Relaxed));
    }
    let (rate, boot, _) = arch::call(Operation::Clock, [0; 6]).unwrap_or((1_000_000_000, 0, 0));
    BOOT.store(boot, Ordering::Relaxed);
    RATE.store(rate.max(1), Ordering::Relaxed);
    (rate.max(1), boot)
}

/// Ticks in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    load().0
}

/// Now, in ticks.
#[inline]
#[must_use]
pub fn now() -> u64 {
    arch::time_stamp()
}

/// Nanoseconds of a number of ticks.
#[must_use]
pub fn nanoseconds(ticks: u64) -> u64 {
    let rate = ticks_per_second();
    // Split so that nothing overflows: whole seconds, then the rest.
    let (seconds, rest) = (ticks / rate, ticks % rate);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add((u128::from(rest) * 1_000_000_000 / u128::from(rate)) as u64)
}

/// Ticks of a number of nanoseconds, rounded up.
#[must_use]
pub fn ticks(nanoseconds: u64) -> u64 {
    let rate = u128::from(ticks_per_second());
    u64::try_from((u128::from(nanoseconds) * rate).div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// Nanoseconds since boot.
#[must_use]
pub fn since_boot() -> u64 {
    nanoseconds(now().saturating_sub(load().1))
}

/// The deadline that many nanoseconds from now; `u64::MAX` stays "never".
#[must_use]
pub fn deadline_in(nanoseconds: u64) -> u64 {
    if nanoseconds == u64::MAX { u64::MAX } else { now().saturating_add(ticks(nanoseconds)) }
}
