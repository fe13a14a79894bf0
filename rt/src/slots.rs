//! The program's free capability slots.

use crate::sync::SpinLock;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel_abi::{Error, Slot, cap::SLOT_LIMIT};

/// Freed slots that are remembered without the heap, so that one can be given back when memory is exhausted.
const REMEMBERED: usize = 128;

static NEXT: AtomicU32 = AtomicU32::new(kernel_abi::cap::root::FREE);
static FREED: SpinLock<Freed> =
    SpinLock::new(Freed { slots: [0; REMEMBERED], count: 0, more: Vec::new() });

/// Freed slots.
struct Freed {
    slots: [Slot; REMEMBERED],
    count: usize,
    /// What found no place there; what finds none here either, for want of memory, is lost to this program, which has a million.
    more: Vec<Slot>,
}

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
        if let Some(slot) = freed.more.pop() {
            return Ok(slot);
        }
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
    if slot == 0 || slot >= SLOT_LIMIT {
        return;
    }
    // What was taken last is the next again: an operation that fails for want of memory touches none that is new.
    if NEXT.compare_exchange(slot + 1, slot, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        return;
    }
    let mut freed = FREED.lock();
    let count = freed.count;
    if let Some(place) = freed.slots.get_mut(count) {
        *place = slot;
        freed.count += 1;
    } else if freed.more.try_reserve(1).is_ok() {
        freed.more.push(slot);
    }
}
