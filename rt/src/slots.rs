//! The program's free capability slots.

use core::sync::atomic::{AtomicU32, Ordering};
use kernel_abi::{Error, Slot, cap::SLOT_LIMIT};

/// Freed slots that are remembered; more are found again by looking at the kernel's answers.
const REMEMBERED: usize = 512;

static NEXT: AtomicU32 = AtomicU32::new(kernel_abi::cap::root::FREE);
static FREED: [AtomicU32; REMEMBERED] = [const { AtomicU32::new(0) }; REMEMBERED];
/// Number of remembered slots; the stack's top.
static HINT: AtomicU32 = AtomicU32::new(0);

/// Sets the first slot that nothing was put into.
pub(crate) fn set_first(slot: Slot) {
    NEXT.store(slot, Ordering::Relaxed);
}

/// Takes a slot that is free.
///
/// # Errors
/// `OutOfObjects` when all slots were used.
pub fn take() -> Result<Slot, Error> {
    if HINT.load(Ordering::Relaxed) > 0 {
        for place in &FREED {
            let slot = place.load(Ordering::Relaxed);
            if slot != 0
                && place.compare_exchange(slot, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                HINT.fetch_sub(1, Ordering::Relaxed);
                return Ok(slot);
            }
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
    if slot == 0 {
        return;
    }
    for place in &FREED {
        if place.compare_exchange(0, slot, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            HINT.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}
