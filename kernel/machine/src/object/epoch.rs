//! Epochs: when the memory of an object that nobody can find any more is used again.
//!
//! A kernel entry is the read section: [`enter`] publishes the epoch it began in, the [`Entry`]'s drop ends it. A cell whose last reference
//! goes is put on its CPU's list with the current epoch. The epoch advances when every CPU that is inside an entry began it in the current
//! epoch; a cell retired in epoch `n` is out of every entry's sight in epoch `n + 2`. Nobody waits: [`collect`] takes what is ripe.

use super::{
    cell::{self, Header, Work},
    queue::RetiredList,
};
use crate::atomic::{AtomicU64, Ordering, fence};
use crate::{Frame, MAX_CPUS, PerCpu, cpu, cpu_count, per_cpu};
use core::{marker::PhantomData, ptr::NonNull};

/// Value of a CPU's word while it is outside the kernel.
const OUTSIDE: u64 = 0;

/// One CPU's epoch word, alone on its cache line.
#[repr(align(64))]
struct Word(AtomicU64);

static GLOBAL: AtomicU64 = AtomicU64::new(1);
static WORDS: [Word; MAX_CPUS] = [const { Word(AtomicU64::new(OUTSIDE)) }; MAX_CPUS];
static RETIRED: PerCpu<RetiredList> = per_cpu!(RetiredList::new());

/// A kernel entry: while it exists, no object that this CPU can find is reused.
pub struct Entry {
    _not_send: PhantomData<*const ()>,
}

/// Begins a kernel entry on this CPU.
#[inline]
#[must_use]
pub fn enter() -> Entry {
    // ORDERING: the swap is a full barrier: no load of the entry happens before the word is visible; pairs with the fence in `advance`.
    WORDS[cpu()].0.swap(GLOBAL.load(Ordering::Relaxed), Ordering::SeqCst);
    Entry { _not_send: PhantomData }
}

impl Drop for Entry {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: Release, so that every read of the entry is over when the word says so.
        WORDS[cpu()].0.store(OUTSIDE, Ordering::Release);
    }
}

/// The current epoch.
#[must_use]
pub fn current() -> u64 {
    GLOBAL.load(Ordering::Acquire)
}

/// Whether everything unlinked in an epoch is out of every entry's sight.
#[must_use]
pub fn has_passed(epoch: u64) -> bool {
    current() >= epoch.saturating_add(2)
}

/// Advances the epoch if every CPU inside the kernel has seen the current one.
pub fn advance() {
    fence(Ordering::SeqCst);
    let epoch = GLOBAL.load(Ordering::Acquire);
    for word in WORDS.iter().take(cpu_count()) {
        let seen = word.0.load(Ordering::Acquire);
        if seen != OUTSIDE && seen != epoch {
            return;
        }
    }
    let _ = GLOBAL.compare_exchange(epoch, epoch.saturating_add(1), Ordering::SeqCst, Ordering::Relaxed);
}

/// Puts a cell without references on this CPU's list.
pub(super) fn retire(header: NonNull<Header>) {
    // SAFETY: the last reference has gone; the cell is in place until it is collected.
    let retired = unsafe { &header.as_ref().retired };
    retired.store(GLOBAL.load(Ordering::SeqCst), Ordering::Relaxed);
    RETIRED.with(|list| list.push(header));
}

/// Whether this CPU has cells to collect, ripe or not.
#[must_use]
pub fn is_pending() -> bool {
    RETIRED.with(|list| !list.is_empty())
}

/// Reclaims cells of this CPU's list whose grace period is over, while there is work left. Frames that slabs no longer need
/// go to `release`. Called inside an entry; the value of a cell may retire further cells.
pub fn collect(entry: &Entry, work: &mut Work, mut release: impl FnMut(Frame)) {
    advance();
    while !work.is_spent() {
        let Some(header) = RETIRED.with(|list| list.pop_if(has_passed)) else { return };
        let (done, frame) = cell::reclaim(header, entry, work);
        if let Some(frame) = frame {
            release(frame);
        }
        if !done {
            RETIRED.with(|list| list.push_front(header));
            return;
        }
        work.spend(8);
    }
}

/// Forgets retired cells, for a fake machine that starts again.
#[cfg(not(target_os = "none"))]
pub(crate) fn reset() {
    RETIRED.reset(|list| *list = RetiredList::new());
    for word in &WORDS {
        word.0.store(OUTSIDE, Ordering::Release);
    }
}
