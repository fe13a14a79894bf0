//! A value that boot sets once and everybody reads.

use crate::atomic::{AtomicBool, Ordering};
use core::cell::UnsafeCell;

/// The value, or nothing before it is set.
pub struct Once<T> {
    is_set: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written before `is_set` and only read afterwards.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T: Copy> Once<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_set: AtomicBool::new(false), value: UnsafeCell::new(None) }
    }
    /// Sets the value; called by boot while one CPU runs.
    pub fn set(&self, value: T) {
        self.is_set.store(false, Ordering::Release);
        // SAFETY: one CPU runs, and readers look only once `is_set` says so.
        unsafe { *self.value.get() = Some(value) };
        // ORDERING: Release pairs with the Acquire of `get`.
        self.is_set.store(true, Ordering::Release);
    }
    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<T> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the value is not written any more.
        unsafe { *self.value.get() }
    }
}

impl<T: Copy> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}
