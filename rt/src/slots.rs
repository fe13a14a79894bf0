//! The program's free capability slots.

use crate::sync::SpinLock;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel_abi::{Error, Slot, cap::SLOT_LIMIT};

/// Freed slots that are remembered; more are lost to this program, which has a million.
const REMEMBERED: usize = 512;

static NEXT: AtomicU32 = AtomicU32::new(kernel_abi::cap::root::FREE);
/// How many freed slots there are; held while they are used.
static COUNT: SpinLock<usize> = SpinLock::new(0);
/// A stack of freed slots.
#[cfg_attr(target_os = "none", unsafe(link_section = ".bss.cold"))]
static FREED: [AtomicU32; REMEMBERED] = [const { AtomicU32::new(0) }; REMEMBERED];

/// Sets the first slot that nothing was put into.
pub(crate) fn set_first(slot: Slot) {
    NEXT.store(slot, Ordering::Relaxed);
}

/// Takes a slot that is free.
///
/// # Errors
/// `OutOfObjects` when all slots were used.
pub fn take() -> Result<Slot, Error> {
    {
        let mut count = COUNT.lock();
        if let Some(last) = count.checked_sub(1) {
            *count = last;
            let slot = FREED.get(last).ok_or(Error::OutOfObjects)?;
            return Ok(slot.load(Ordering::Relaxed));
        }
    }
    let slot = NEXT.fetch_add(1, Ordering::Relaxed);
    if slot >= SLOT_LIMIT {
        NEXT.store(SLOT_LIMIT, Ordering::Relaxed);
        return Err(Error::OutOfObjects);
    }
    Ok(slot)
}

/// Takes three consecutive slots: a window for received capabilities.
///
/// # Errors
/// `OutOfObjects` when all slots were used.
pub fn take_window() -> Result<Slot, Error> {
    let slot = NEXT.fetch_add(3, Ordering::Relaxed);
    if slot.saturating_add(3) > SLOT_LIMIT { Err(Error::OutOfObjects) } else { Ok(slot) }
}

/// Gives an empty slot back.
pub fn give_back(slot: Slot) {
    if slot == 0 || slot >= SLOT_LIMIT {
        return;
    }
    // What was taken last is the next again: an operation that fails for want of memory touches none that is new.
    if NEXT.compare_exchange(slot + 1, slot, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        return;
    }
    let mut count = COUNT.lock();
    if let Some(place) = FREED.get(*count) {
        place.store(slot, Ordering::Relaxed);
        *count += 1;
    }
}
