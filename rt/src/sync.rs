//! Locks for native programs: one that spins for a few instructions' work, and one that parks.

use crate::thread;
use core::{
    cell::UnsafeCell,
    fmt,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

/// Turns of spinning before the CPU is given to another thread.
const SPINS: u32 = 64;

/// A lock for very short critical sections that never block.
pub struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one exclusive reference at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SpinLock")
    }
}

impl<T> SpinLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let mut turns = 0;
        while self.held.swap(true, Ordering::Acquire) {
            turns += 1;
            if turns % SPINS == 0 {
                thread::yield_now();
            }
            core::hint::spin_loop();
        }
        SpinGuard { lock: self }
    }
}

/// The right to use a locked value.
#[derive(Debug)]
pub struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes the use exclusive.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

/// Where threads wait for the word at an address to change: a small hash table of waiting threads.
mod parking {
    use super::SpinLock;
    use crate::thread;
    use kernel_abi::Slot;

    const BUCKETS: usize = 64;
    /// Waiters of a bucket that are remembered; a thread that finds no place gives its turn away instead.
    const PLACES: usize = 16;

    #[cfg_attr(target_os = "none", unsafe(link_section = ".bss.cold"))]
    static TABLE: [SpinLock<[(usize, Slot); PLACES]>; BUCKETS] =
        [const { SpinLock::new([(0, 0); PLACES]) }; BUCKETS];

    fn bucket(address: usize) -> &'static SpinLock<[(usize, Slot); PLACES]> {
        &TABLE[(address >> 4) % BUCKETS]
    }

    /// Parks the thread until it is woken for the address, if the condition still holds.
    pub(super) fn wait(address: usize, holds: impl Fn() -> bool) {
        let own = thread::own_slot();
        {
            let mut places = bucket(address).lock();
            if !holds() {
                return;
            }
            match places.iter_mut().find(|place| place.0 == 0) {
                Some(place) => *place = (address, own),
                None => {
                    drop(places);
                    thread::yield_now();
                    return;
                }
            }
        }
        thread::park();
        let mut places = bucket(address).lock();
        if let Some(place) = places.iter_mut().find(|place| **place == (address, own)) {
            *place = (0, 0);
        }
    }

    /// Wakes one thread that waits for the address; whether there was one.
    pub(super) fn wake(address: usize) -> bool {
        let mut places = bucket(address).lock();
        let Some(place) = places.iter_mut().find(|place| place.0 == address) else { return false };
        let slot = place.1;
        *place = (0, 0);
        drop(places);
        thread::unpark(slot);
        true
    }
}

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A lock that parks whoever has to wait.
pub struct Mutex<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one exclusive reference at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Mutex")
    }
}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self { word: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }
    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slowly();
        }
        MutexGuard { lock: self }
    }
    #[cold]
    fn lock_slowly(&self) {
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            let address = (&raw const self.word).addr();
            parking::wait(address, || self.word.load(Ordering::Relaxed) == CONTENDED);
        }
    }
    /// The value, when nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to use a locked value.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes the use exclusive.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.lock.word.swap(FREE, Ordering::Release) == CONTENDED {
            parking::wake((&raw const self.lock.word).addr());
        }
    }
}
