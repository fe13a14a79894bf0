//! The program's free capability slots.

use crate::sync::SpinLock;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel_abi::{Error, Slot, cap::SLOT_LIMIT};

/// Freed slots that are remembered; more are lost to this program, which has a million.
const REMEMBERED: usize = 512;

/// A stack of freed slots.
struct Freed {
    slots: [Slot; REMEMBERED],
    count: usize,
}

static NEXT: AtomicU32 = AtomicU32::new(kernel_abi::cap::root::FREE);
static FREED: SpinLock<Freed> = SpinLock::new(Freed { slots: [0; REMEMBERED], count: 0 });

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
        let mut freed = FREED.lock();
        if let Some(last) = freed.count.checked_sub(1) {
            freed.count = last;
            return freed.slots.get(last).copied().ok_or(Error::OutOfObjects);
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
    let mut freed = FREED.lock();
    let count = freed.count;
    if let Some(place) = freed.slots.get_mut(count) {
        *place = slot;
        freed.count += 1;
    }
}
