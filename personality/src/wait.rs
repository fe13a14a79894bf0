//! Waiting: who is to look again when something has happened.
//!
//! A system call that cannot go on joins the queues of what it waits for and returns [`Stop::Wait`]; its thread leaves the lock, parks, and begins the
//! call anew. Being woken for nothing is harmless. A queue keeps a number of events, so that edges can be told from levels.

use crate::linux::Errno;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use kernel_abi::Slot;

/// Why a system call does not return a value now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An error.
    Errno(Errno),
    /// It waits; until a deadline (TSC), `u64::MAX` for none.
    Wait(u64),
    /// The registers are as they must be: nothing is returned (`execve`, `rt_sigreturn`, `exit`).
    Done,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<kernel_abi::Error> for Stop {
    fn from(error: kernel_abi::Error) -> Self {
        Self::Errno(error.into())
    }
}

/// Waits without a deadline.
pub const WAIT: Stop = Stop::Wait(u64::MAX);

/// A thread that may have to look again.
pub type Waiter = Slot;

/// Threads that wait for one thing.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiters: RefCell<Vec<Waiter>>,
    events: Cell<u64>,
}

impl WaitQueue {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiters: RefCell::new(Vec::new()), events: Cell::new(0) }
    }
    /// Joins.
    pub fn join(&self, waiter: Waiter) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.contains(&waiter) {
            waiters.push(waiter);
        }
    }
    /// Something has happened: everybody looks again.
    pub fn wake(&self) {
        self.events.set(self.events.get() + 1);
        if self.waiters.borrow().is_empty() {
            return;
        }
        let waiters = self.waiters.take();
        for waiter in waiters {
            rt::thread::unpark(waiter);
        }
    }
    /// How often something has happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.get()
    }
}
