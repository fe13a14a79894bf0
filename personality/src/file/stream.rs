//! The standard streams of a process that the daemon started without a terminal.

use crate::{
    linux::{Errno, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM},
    machine::guest::{Sink, Source},
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::{collections::VecDeque, vec::Vec};
use core::cell::{Cell, RefCell};

/// Output that may wait for the daemon.
const LIMIT: usize = 64 * 1024;

/// One stream.
#[derive(Debug, Default)]
pub struct Stream {
    bytes: RefCell<VecDeque<u8>>,
    has_ended: Cell<bool>,
    /// Open files that refer to it.
    users: Cell<u32>,
    /// Bytes that programs have read and the daemon was not told of.
    pub taken: Cell<u32>,
    /// Those who wait for bytes, or for room.
    pub queue: WaitQueue,
}

impl Stream {
    /// An open file refers to it (true), or no longer does.
    pub fn count(&self, opened: bool) {
        let users = self.users.get();
        self.users.set(if opened { users + 1 } else { users.saturating_sub(1) });
    }
    /// Whether a program can still use it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.users.get() > 0
    }
    /// The daemon gives input.
    pub fn give(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().extend(bytes);
        self.queue.wake();
    }
    /// The daemon gives no more input.
    pub fn end(&self) {
        self.has_ended.set(true);
        self.queue.wake();
    }
    /// Bytes that wait.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.borrow().len()
    }
    /// The daemon takes output.
    pub fn take(&self, limit: usize) -> Vec<u8> {
        let taken = self.front(limit);
        if !taken.is_empty() {
            self.bytes.borrow_mut().drain(..taken.len());
            self.queue.wake();
        }
        taken
    }

    /// A program reads.
    ///
    /// # Errors
    /// `EAGAIN`, waits; `EFAULT`.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.bytes.borrow().is_empty() {
            if self.has_ended.get() || sink.room() == 0 {
                return Ok(0);
            }
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join(waiter);
            return Err(WAIT);
        }
        let taken = self.front(sink.room());
        sink.put(&taken)?;
        self.bytes.borrow_mut().drain(..taken.len());
        self.taken.set(self.taken.get() + taken.len() as u32);
        Ok(taken.len())
    }

    /// A copy of the first bytes.
    fn front(&self, limit: usize) -> Vec<u8> {
        let bytes = self.bytes.borrow();
        let (first, second) = bytes.as_slices();
        let first = first.get(..limit).unwrap_or(first);
        let second = second.get(..limit - first.len()).unwrap_or(second);
        [first, second].concat()
    }

    /// A program writes.
    ///
    /// # Errors
    /// `EAGAIN`, waits; `EFAULT`.
    pub fn write(
        &self,
        source: &mut Source<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        let room = LIMIT.saturating_sub(self.length());
        let count = source.left().min(room);
        if count == 0 && source.left() > 0 {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join(waiter);
            return Err(WAIT);
        }
        let mut left = count;
        let mut chunk = [0; 1024];
        while left > 0 {
            let now = left.min(chunk.len());
            let part = chunk.get_mut(..now).unwrap_or_default();
            source.take(part)?;
            self.bytes.borrow_mut().extend(part.iter());
            left -= now;
        }
        Ok(count)
    }

    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self, is_input: bool) -> u32 {
        if is_input {
            let mut mask = if self.length() > 0 { POLLIN | POLLRDNORM } else { 0 };
            if self.has_ended.get() {
                mask |= POLLHUP;
            }
            mask
        } else if self.length() < LIMIT {
            POLLOUT | POLLWRNORM
        } else {
            0
        }
    }
}
