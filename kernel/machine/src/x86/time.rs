//! Time: the speed of the time stamp counter, and each CPU's one-shot timer.

use super::{acpi::Facts, apic, instruction};
use core::sync::atomic::{AtomicU64, Ordering};

/// Ticks of the ACPI power-management timer in a second (ACPI 6.5, 4.8.3.3).
const PM_RATE: u64 = 3_579_545;
/// Ticks of the 8254 in a second.
const PIT_RATE: u64 = 1_193_182;
/// Milliseconds of calibration.
const CALIBRATION: u64 = 3;
/// What a CPU without any clock is assumed to do.
const DEFAULT_RATE: u64 = 1_000_000_000;

static RATE: AtomicU64 = AtomicU64::new(DEFAULT_RATE);
/// Timer ticks per counter tick, times 2^32.
static RATIO: AtomicU64 = AtomicU64::new(0);

/// Ticks of [`now`](super::instruction::now) in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    RATE.load(Ordering::Relaxed)
}

/// Measures the counter and the timer against a clock of known speed.
pub(super) fn calibrate(facts: &Facts) {
    apic::start_timer(u32::MAX);
    let (counter, timer) = (instruction::now(), apic::timer_left());
    let (elapsed, rate) = match facts.timer_port {
        Some(port) => wait_pm_timer(port),
        None => wait_pit(),
    };
    let ticks = instruction::now().wrapping_sub(counter);
    let timer_ticks = u64::from(timer.wrapping_sub(apic::timer_left()));
    apic::start_timer(0);
    let scaled = u128::from(ticks) * u128::from(rate) / u128::from(elapsed.max(1));
    RATE.store(u64::try_from(scaled).unwrap_or(DEFAULT_RATE).max(1_000_000), Ordering::Relaxed);
    RATIO.store(
        ((u128::from(timer_ticks) << 32) / u128::from(ticks.max(1))) as u64,
        Ordering::Relaxed,
    );
}

/// Waits by the power-management timer, of which 24 bits are sure; ticks passed and their rate.
fn wait_pm_timer(port: u16) -> (u64, u64) {
    // SAFETY: reading the timer has no effect.
    let read = || unsafe { instruction::in_long(port) } & 0xff_ffff;
    let begun = read();
    loop {
        let elapsed = u64::from(read().wrapping_sub(begun) & 0xff_ffff);
        if elapsed >= PM_RATE * CALIBRATION / 1000 {
            return (elapsed, PM_RATE);
        }
    }
}

/// Waits by channel 0 of the 8254, counting down from 65536; ticks passed and their rate.
fn wait_pit() -> (u64, u64) {
    // SAFETY: the kernel uses the channel for nothing else, and its interrupt is masked.
    unsafe {
        instruction::out_byte(0x43, 0x34);
        instruction::out_byte(0x40, 0);
        instruction::out_byte(0x40, 0);
    }
    let read = || {
        // SAFETY: latching and reading the count has no other effect.
        unsafe {
            instruction::out_byte(0x43, 0);
            let low = instruction::in_byte(0x40);
            u16::from(low) | u16::from(instruction::in_byte(0x40)) << 8
        }
    };
    let begun = read();
    loop {
        let elapsed = u64::from(begun.wrapping_sub(read()));
        if elapsed >= PIT_RATE * CALIBRATION / 1000 {
            return (elapsed, PIT_RATE);
        }
    }
}

/// Sets this CPU's one-shot timer to an absolute deadline; 0 stops it.
pub fn set_timer(deadline: u64) {
    if deadline == 0 {
        apic::start_timer(0);
        return;
    }
    let ticks = deadline.saturating_sub(instruction::now());
    let count = (u128::from(ticks) * u128::from(RATIO.load(Ordering::Relaxed))) >> 32;
    apic::start_timer(u32::try_from(count).unwrap_or(u32::MAX).max(1));
}
