//! Time: the speed of the time stamp counter, and each CPU's one-shot timer.

use super::{acpi::Facts, apic, instruction};
use core::sync::atomic::{AtomicU64, Ordering};

/// Ticks of the ACPI power-management timer in a second (ACPI 6.5, 4.8.3.3).
const PM_RATE: u64 = 3_579_545;
/// Ticks of the 8254 in a second.
const PIT_RATE: u64 = 1_193_182;
/// Bits of the two clocks.
const PM_MASK: u64 = 0xff_ffff;
const PIT_MASK: u64 = 0xffff;
/// Attempts to read all clocks at one moment.
const ATTEMPTS: u32 = 4;
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
    start_pit();
    apic::start_timer(u32::MAX);
    let (begun, port) = (Sample::take(facts.timer_port), facts.timer_port);
    let (rate, mask) = if port.is_some() { (PM_RATE, PM_MASK) } else { (PIT_RATE, PIT_MASK) };
    let (ended, elapsed) = loop {
        let sample = Sample::take(port);
        let elapsed = sample.clock.wrapping_sub(begun.clock) & mask;
        if elapsed >= rate * CALIBRATION / 1000 {
            break (sample, elapsed);
        }
    };
    let ticks = ended.counter.wrapping_sub(begun.counter);
    let timer_ticks = u64::from(begun.timer.wrapping_sub(ended.timer));
    apic::start_timer(0);
    let scaled = u128::from(ticks) * u128::from(rate) / u128::from(elapsed.max(1));
    RATE.store(u64::try_from(scaled).unwrap_or(DEFAULT_RATE).max(1_000_000), Ordering::Relaxed);
    RATIO.store(((u128::from(timer_ticks) << 32) / u128::from(ticks.max(1))) as u64, Ordering::Relaxed);
}

/// The counter, the timer and the clock of known speed at one moment.
struct Sample {
    counter: u64,
    timer: u32,
    clock: u64,
}

impl Sample {
    /// The closest of some attempts: a virtual CPU may be held up between two readings, for longer than the calibration lasts.
    fn take(port: Option<u16>) -> Self {
        let mut best = Self::read(port);
        for _ in 1..ATTEMPTS {
            let next = Self::read(port);
            if next.1 < best.1 {
                best = next;
            }
        }
        best.0
    }

    /// One attempt, and how many ticks passed while it was made.
    fn read(port: Option<u16>) -> (Self, u64) {
        let counter = instruction::now();
        let timer = apic::timer_left();
        let clock = port.map_or_else(read_pit, read_pm_timer);
        (Self { counter, timer, clock }, instruction::now().wrapping_sub(counter))
    }
}

/// The power-management timer, of which 24 bits are sure.
fn read_pm_timer(port: u16) -> u64 {
    // SAFETY: reading the timer has no effect.
    u64::from(unsafe { instruction::in_long(port) }) & PM_MASK
}

/// Lets channel 0 of the 8254 count down from 65536.
fn start_pit() {
    // SAFETY: the kernel uses the channel for nothing else, and its interrupt is masked.
    unsafe {
        instruction::out_byte(0x43, 0x34);
        instruction::out_byte(0x40, 0);
        instruction::out_byte(0x40, 0);
    }
}

/// What the channel has counted, upwards.
fn read_pit() -> u64 {
    // SAFETY: latching and reading the count has no other effect.
    let count = unsafe {
        instruction::out_byte(0x43, 0);
        let low = instruction::in_byte(0x40);
        u16::from(low) | u16::from(instruction::in_byte(0x40)) << 8
    };
    u64::from(count.wrapping_neg())
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
