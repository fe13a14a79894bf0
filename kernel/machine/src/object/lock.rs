//! The kernel's spin lock, with a rank that debug builds check.

use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::counter::{self, Counter};
use crate::{MAX_CPUS, cpu, relax};
use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
};

/// Place of a lock in the kernel's lock order: a CPU takes locks only in ascending rank.
pub type Rank = u8;

/// Ranks each CPU holds, one bit per rank; kept in debug builds only.
static HELD: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// A value behind a spin lock. Interrupts are off in the kernel, so a holder is never interrupted.
pub struct SpinLock<T> {
    held: AtomicBool,
    rank: Rank,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one exclusive reference at a time, so sharing it moves `T` between CPUs at most.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock.
    #[must_use]
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { held: AtomicBool::new(false), rank, value: UnsafeCell::new(value) }
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock_ranked(false)
    }

    /// Takes the lock as the second of two locks of one rank; the caller orders the two by address.
    #[inline]
    pub fn lock_second(&self) -> Guard<'_, T> {
        self.lock_ranked(true)
    }

    #[inline]
    fn lock_ranked(&self, second: bool) -> Guard<'_, T> {
        let added = self.check_rank(second);
        // ORDERING: Acquire pairs with the Release store of the guard's drop.
        if self.held.swap(true, Ordering::Acquire) {
            self.wait();
        }
        Guard { lock: self, added }
    }

    /// Takes the lock from another CPU.
    #[cold]
    fn wait(&self) {
        counter::add(Counter::Contended, 1);
        // ORDERING: as in `lock_ranked`.
        while self.held.load(Ordering::Relaxed) || self.held.swap(true, Ordering::Acquire) {
            relax();
        }
    }

    /// Notes the rank and returns the bit to take away again.
    #[inline]
    fn check_rank(&self, second: bool) -> u32 {
        if !cfg!(debug_assertions) {
            return 0;
        }
        counter::add(Counter::Locks, 1);
        let bit = 1_u32 << self.rank;
        let held = HELD[cpu()].fetch_or(bit, Ordering::Relaxed);
        let above = if second { !(bit | (bit - 1)) } else { !(bit - 1) };
        assert!(held & above == 0, "lock order: rank {} taken while holding {held:#b}", self.rank);
        if held & bit == 0 { bit } else { 0 }
    }
}

/// Forgets which ranks are held: a test that failed may have left some.
#[cfg(not(target_os = "none"))]
pub(super) fn reset() {
    HELD.iter().for_each(|held| held.store(0, Ordering::Relaxed));
}

/// The right to use a locked value.
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    added: u32,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists only while its lock is held, and `&mut self` makes the use exclusive.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD[cpu()].fetch_and(!self.added, Ordering::Relaxed);
        }
        // ORDERING: Release pairs with the Acquire swap in `lock_ranked`.
        self.lock.held.store(false, Ordering::Release);
    }
}
