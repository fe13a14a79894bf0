//! Per-CPU data: one value for every CPU, reached only by its own CPU.
//!
//! Interrupts are off in the kernel, so a CPU never interrupts itself while it uses its value; a flag catches the remaining
//! case, a nested use of the same value on the same CPU.

use crate::types::MAX_CPUS;
use core::cell::{Cell, UnsafeCell};

/// One CPU's value, alone on its cache lines.
#[repr(align(64))]
pub struct CpuCell<T> {
    borrowed: Cell<bool>,
    value: UnsafeCell<T>,
}

/// One `T` per CPU.
pub struct PerCpu<T> {
    cells: [CpuCell<T>; MAX_CPUS],
}

// SAFETY: a cell is reached only through `with`, which picks the calling CPU's own; a CPU runs one kernel entry at a time.
unsafe impl<T: Send> Sync for PerCpu<T> {}

/// Ends the borrow also when the closure panics (host tests).
struct Borrow<'a>(&'a Cell<bool>);

impl Drop for Borrow<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<T> PerCpu<T> {
    /// Takes one cell for every CPU; statics use [`per_cpu!`](crate::per_cpu).
    #[must_use]
    pub const fn from_cells(cells: [CpuCell<T>; MAX_CPUS]) -> Self {
        Self { cells }
    }

    /// Gives every CPU's value to `reset`: for host tests, which start the kernel more than once.
    #[cfg(not(target_os = "none"))]
    pub fn reset(&self, mut reset: impl FnMut(&mut T)) {
        for cpu in 0..MAX_CPUS {
            crate::on_cpu(cpu, || self.with(&mut reset));
        }
    }

    /// Lets `use_value` work on this CPU's value.
    ///
    /// # Panics
    /// If the value is in use already on this CPU.
    #[inline]
    pub fn with<R>(&self, use_value: impl FnOnce(&mut T) -> R) -> R {
        let cell = &self.cells[crate::cpu() % MAX_CPUS];
        assert!(!cell.borrowed.replace(true), "nested use of per-CPU data");
        let borrow = Borrow(&cell.borrowed);
        // SAFETY: only this CPU reaches the cell, and the flag shows that no other borrow on this CPU exists.
        let value = unsafe { &mut *cell.value.get() };
        let result = use_value(value);
        drop(borrow);
        result
    }
}

impl<T> CpuCell<T> {
    /// A cell with a value.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { borrowed: Cell::new(false), value: UnsafeCell::new(value) }
    }
}

/// `per_cpu!(expression)`: a [`PerCpu`] whose values are all made from a constant expression.
#[macro_export]
macro_rules! per_cpu {
    ($value:expr) => {
        $crate::PerCpu::from_cells([const { $crate::CpuCell::new($value) }; $crate::MAX_CPUS])
    };
}
