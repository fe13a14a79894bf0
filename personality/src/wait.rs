//! Waiting: who is to look again when something has happened.
//!
//! A system call that cannot go on joins the queues of what it waits for and returns [`Stop::Wait`]; its thread leaves the lock, parks, and begins the
//! call anew. Being woken for nothing is harmless. Observers (epoll's interests) stay in a queue and are told of every happening, so that an edge is never missed and
//! nobody has to look through files that are quiet.

use crate::linux::Errno;
use alloc::{
    boxed::Box,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::RefCell;
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

/// Every happening: for those who look at everything, and for happenings that may be of any kind.
const ANYTHING: u32 = u32::MAX;

/// Who is told of happenings for as long as it lives (an entry of an epoll instance).
pub trait Observer: core::fmt::Debug {
    /// Events of poll(2) have happened.
    fn happened(self: Rc<Self>, events: u32);
}

type Observers = Vec<Weak<dyn Observer>>;

/// Threads that wait for one thing, and those who observe it.
///
/// A happening is a mask of poll(2)'s events, so that a reader is not woken for room, nor a writer for bytes.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiters: RefCell<Vec<(Waiter, u32)>>,
    /// Boxed, since few queues are ever observed and every node has one.
    observers: RefCell<Option<Box<Observers>>>,
}

impl WaitQueue {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiters: RefCell::new(Vec::new()), observers: RefCell::new(None) }
    }
    /// Joins, for whatever happens.
    pub fn join(&self, waiter: Waiter) {
        self.join_for(waiter, ANYTHING);
    }
    /// Joins for certain events.
    pub fn join_for(&self, waiter: Waiter, events: u32) {
        let mut waiters = self.waiters.borrow_mut();
        match waiters.iter_mut().find(|(known, _)| *known == waiter) {
            Some((_, before)) => *before |= events,
            None => waiters.push((waiter, events)),
        }
    }
    /// Something has happened: everybody looks again.
    pub fn wake(&self) {
        self.wake_for(ANYTHING);
    }
    /// Events have happened: whoever waits for one of them looks again.
    pub fn wake_for(&self, events: u32) {
        self.tell_observers(events);
        self.wake_waiters(events);
    }
    /// Wakes threads, and tells no observer.
    pub(crate) fn wake_waiters(&self, events: u32) {
        self.waiters.borrow_mut().retain(|(waiter, wanted)| {
            let is_meant = wanted & events != 0;
            if is_meant {
                rt::thread::unpark(*waiter);
            }
            !is_meant
        });
    }
    /// Tells observers, and wakes no thread.
    pub(crate) fn tell_observers(&self, events: u32) {
        if let Some(observers) = &*self.observers.borrow() {
            for observer in observers.iter().filter_map(Weak::upgrade) {
                observer.happened(events);
            }
        }
    }
    /// Somebody is told of everything that happens from here on.
    pub fn observe(&self, observer: Weak<dyn Observer>) {
        let mut observers = self.observers.borrow_mut();
        let observers = observers.get_or_insert_default();
        // Those that are gone leave when they would make the list grow.
        if observers.len() == observers.capacity() {
            observers.retain(|known| known.strong_count() > 0);
        }
        observers.push(observer);
    }
    /// Somebody is told no more.
    pub fn ignore(&self, observer: &Weak<dyn Observer>) {
        let mut place = self.observers.borrow_mut();
        if let Some(observers) = &mut *place {
            observers.retain(|known| !known.ptr_eq(observer) && known.strong_count() > 0);
            if observers.is_empty() {
                *place = None;
            }
        }
    }
}
