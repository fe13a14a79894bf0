//! epoll(7): interest lists.

use super::OpenFile;
use crate::{
    linux::{EPOLLET, EPOLLONESHOT, Errno, POLLERR, POLLHUP, POLLIN},
    wait::{WaitQueue, Waiter},
};
use alloc::{
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::{Cell, RefCell};

/// One file of interest.
#[derive(Debug)]
struct Interest {
    fd: i32,
    file: Weak<OpenFile>,
    events: Cell<u32>,
    data: Cell<u64>,
    /// Events and happenings when it was reported last (edge-triggered).
    reported: Cell<(u32, u64)>,
    is_spent: Cell<bool>,
}

/// An epoll instance.
#[derive(Debug, Default)]
pub struct Epoll {
    interests: RefCell<Vec<Interest>>,
    /// Where the next report begins, so that all get their turn.
    turn: Cell<usize>,
    /// Those who wait for the instance itself to change.
    pub queue: WaitQueue,
}

/// Operations of epoll_ctl(2).
pub const ADD: u64 = 1;
/// Remove.
pub const DELETE: u64 = 2;
/// Change.
pub const MODIFY: u64 = 3;

impl Epoll {
    /// Adds, changes or removes a file.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EINVAL`.
    pub fn control(
        &self,
        operation: u64,
        fd: i32,
        file: &Rc<OpenFile>,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let mut interests = self.interests.borrow_mut();
        interests.retain(|interest| interest.file.strong_count() > 0);
        let found = interests
            .iter()
            .position(|interest| interest.fd == fd && interest.file.as_ptr() == Rc::as_ptr(file));
        match (operation, found) {
            (ADD, Some(_)) => return Err(Errno::EEXIST),
            (ADD, None) => interests.push(Interest {
                fd,
                file: Rc::downgrade(file),
                events: Cell::new(events),
                data: Cell::new(data),
                reported: Cell::new((0, 0)),
                is_spent: Cell::new(false),
            }),
            (DELETE, Some(index)) => {
                interests.remove(index);
            }
            (MODIFY, Some(index)) => {
                if let Some(interest) = interests.get(index) {
                    interest.events.set(events);
                    interest.data.set(data);
                    interest.reported.set((0, 0));
                    interest.is_spent.set(false);
                }
            }
            (DELETE | MODIFY, None) => return Err(Errno::ENOENT),
            _ => return Err(Errno::EINVAL),
        }
        drop(interests);
        self.queue.wake();
        Ok(())
    }

    /// Files that are ready: events and data, `limit` at most. With a waiter, all files are watched, and the earliest deadline among them is told.
    pub fn ready(&self, limit: usize, waiter: Option<Waiter>) -> (Vec<(u32, u64)>, u64) {
        let mut ready = Vec::new();
        let mut deadline = u64::MAX;
        let interests = self.interests.borrow();
        let count = interests.len();
        let start = self.turn.get();
        for step in 0..count {
            let Some(interest) = interests.get((start + step) % count) else { continue };
            let Some(file) = interest.file.upgrade() else { continue };
            if interest.is_spent.get() {
                continue;
            }
            let wanted = interest.events.get() | POLLERR | POLLHUP;
            let mask = file.poll() & wanted;
            let happenings = file.events();
            let is_edge = wanted & EPOLLET != 0;
            let is_news = !is_edge || interest.reported.get() != (mask, happenings);
            if mask != 0 && is_news && ready.len() < limit {
                ready.push((mask, interest.data.get()));
                interest.reported.set((mask, happenings));
                interest.is_spent.set(wanted & EPOLLONESHOT != 0);
                self.turn.set((start + step + 1) % count);
            } else if mask == 0 && is_edge {
                interest.reported.set((0, happenings));
            }
            if let Some(waiter) = waiter {
                deadline = deadline.min(file.watch(waiter));
            }
        }
        if let Some(waiter) = waiter {
            self.queue.join(waiter);
        }
        (ready, deadline)
    }

    /// What poll(2) says: whether a wait would return at once.
    #[must_use]
    pub fn poll(&self) -> u32 {
        let interests = self.interests.borrow();
        let any = interests.iter().any(|interest| {
            !interest.is_spent.get()
                && interest.file.upgrade().is_some_and(|file| {
                    file.poll() & (interest.events.get() | POLLERR | POLLHUP) != 0
                })
        });
        if any { POLLIN } else { 0 }
    }

    /// Joins the queues of all files.
    #[must_use]
    pub fn watch(&self, waiter: Waiter) -> u64 {
        self.queue.join(waiter);
        let interests = self.interests.borrow();
        interests
            .iter()
            .filter_map(|interest| interest.file.upgrade())
            .map(|file| file.watch(waiter))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Happenings of all files.
    #[must_use]
    pub fn events(&self) -> u64 {
        let interests = self.interests.borrow();
        interests
            .iter()
            .filter_map(|interest| interest.file.upgrade())
            .map(|file| file.events())
            .fold(0, u64::wrapping_add)
    }
}
