//! Locks on files: flock(2), and fcntl(2)'s record locks of processes and open files.

use crate::{
    linux::Errno,
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::vec::Vec;
use core::cell::RefCell;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process (POSIX locks).
    Process(i32),
    /// An open file description (flock, and OFD locks if `ofd`).
    Description(u64, bool),
}

/// A lock on bytes `start..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who.
    pub owner: Owner,
    /// Exclusive.
    pub is_write: bool,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

/// The locks of one node.
#[derive(Debug, Default)]
pub struct Locks {
    held: RefCell<Vec<Lock>>,
    queue: WaitQueue,
}

/// Whether two owners' locks are of the same family: flock locks and record locks do not see each other.
fn is_flock(owner: Owner) -> bool {
    matches!(owner, Owner::Description(_, false))
}

fn overlaps(one: &Lock, other: &Lock) -> bool {
    one.start <= other.last && other.start <= one.last
}

impl Locks {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: RefCell::new(Vec::new()), queue: WaitQueue::new() }
    }

    /// The first lock that is in the way.
    #[must_use]
    pub fn conflict(&self, wanted: &Lock) -> Option<Lock> {
        let held = self.held.borrow();
        held.iter()
            .find(|lock| {
                lock.owner != wanted.owner
                    && is_flock(lock.owner) == is_flock(wanted.owner)
                    && (lock.is_write || wanted.is_write)
                    && overlaps(lock, wanted)
            })
            .copied()
    }

    /// Takes a lock, in place of what the owner has in the range.
    ///
    /// # Errors
    /// `EAGAIN` if it must not wait.
    pub fn take(&self, wanted: Lock, wait: bool, waiter: Waiter) -> Result<(), Stop> {
        if self.conflict(&wanted).is_some() {
            if !wait {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join(waiter);
            return Err(WAIT);
        }
        self.release(wanted.owner, wanted.start, wanted.last);
        self.held.borrow_mut().push(wanted);
        Ok(())
    }

    /// Releases what an owner holds in a range.
    pub fn release(&self, owner: Owner, start: u64, last: u64) {
        let mut held = self.held.borrow_mut();
        if held.is_empty() {
            return;
        }
        let mut kept = Vec::new();
        for lock in held.drain(..) {
            if lock.owner != owner || lock.last < start || lock.start > last {
                kept.push(lock);
                continue;
            }
            if lock.start < start {
                kept.push(Lock { last: start - 1, ..lock });
            }
            if lock.last > last {
                kept.push(Lock { start: last + 1, ..lock });
            }
        }
        *held = kept;
        drop(held);
        self.queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: i32, is_write: bool, start: u64, last: u64) -> Lock {
        Lock { owner: Owner::Process(owner), is_write, start, last }
    }

    #[test]
    fn record_locks_split_and_exclude() {
        let locks = Locks::new();
        assert_eq!(locks.take(lock(1, true, 0, 99), false, 0), Ok(()));
        assert!(locks.take(lock(2, false, 50, 60), false, 0).is_err());
        locks.release(Owner::Process(1), 40, 70);
        assert_eq!(locks.take(lock(2, false, 50, 60), false, 0), Ok(()));
        assert_eq!(locks.conflict(&lock(3, true, 0, 10)).map(|lock| lock.last), Some(39));
        assert_eq!(locks.conflict(&lock(3, true, 71, 200)).map(|lock| lock.start), Some(71));
        assert_eq!(locks.conflict(&lock(3, false, 55, 55)), None);
    }

    #[test]
    fn flock_and_record_locks_do_not_meet() {
        let locks = Locks::new();
        assert_eq!(locks.take(lock(1, true, 0, u64::MAX), false, 0), Ok(()));
        let flock =
            Lock { owner: Owner::Description(7, false), is_write: true, start: 0, last: u64::MAX };
        assert_eq!(locks.take(flock, false, 0), Ok(()));
    }
}
