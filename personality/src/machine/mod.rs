//! What only a machine can do: the guest's registers, its memory, its vector state. The only unsafe code of the personality.
//!
//! Guest memory is read and written at the guest's own addresses, which are mapped below the home region while the thread runs the personality. The copies
//! are assembly with a way out: a fault in them that the kernel cannot resolve continues at the copy's end with what is left, and becomes EFAULT.

pub mod attached;
pub mod guest;
pub mod state;

pub use state::GuestState;

use core::cell::UnsafeCell;

/// The value that all threads of the personality share, under one lock.
///
/// One lock for one compartment: its system calls exclude each other, those of other compartments are elsewhere. A thread that waits does so
/// outside the lock.
pub struct Shared<T> {
    lock: rt::sync::Mutex<()>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value, with every counted reference inside it, is used by the holder of the lock only; no reference leaves `with`.
unsafe impl<T> Sync for Shared<T> {}

impl<T> core::fmt::Debug for Shared<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Shared")
    }
}

impl<T> Shared<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { lock: rt::sync::Mutex::new(()), value: UnsafeCell::new(None) }
    }
    /// Sets the value.
    pub fn set(&self, value: T) {
        let _guard = self.lock.lock();
        // SAFETY: the lock is held.
        unsafe { *self.value.get() = Some(value) };
    }
    /// Takes the value out again, if it is set.
    pub fn take(&self) -> Option<T> {
        let _guard = self.lock.lock();
        // SAFETY: the lock is held.
        unsafe { (*self.value.get()).take() }
    }
    /// Uses the value; `None` before it is set.
    #[inline]
    pub fn with<R>(&self, use_value: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _guard = self.lock.lock();
        // SAFETY: the lock is held, and `with` is not called inside `use_value`, which would wait for itself for ever.
        unsafe { (*self.value.get()).as_mut() }.map(use_value)
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A value that is moved into another thread's first steps. Its counted references belong to the shared state.
pub struct Handed<T>(pub T);

// SAFETY: the receiving thread uses the value under the lock of `Shared` only.
unsafe impl<T> Send for Handed<T> {}

impl<T> core::fmt::Debug for Handed<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Handed")
    }
}

pub mod layer;
pub mod pages;
pub mod vdso_code;
