//! Pipes and FIFOs (pipe(7)).

use crate::{
    linux::{Errno, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM},
    machine::guest::{Sink, Source},
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};

/// Writes up to this long are not mixed with others'.
pub const PIPE_BUF: usize = 4096;
/// Capacity of a new pipe.
const CAPACITY: usize = 64 * 1024;
/// Largest capacity that can be asked for.
const MAX_CAPACITY: usize = 1 << 20;

/// A pipe.
#[derive(Debug)]
pub struct Pipe {
    bytes: RefCell<VecDeque<u8>>,
    capacity: Cell<usize>,
    readers: Cell<u32>,
    writers: Cell<u32>,
    /// Times a reader or writer has opened it (a FIFO's open waits for the other side).
    pub opened: [Cell<u64>; 2],
    /// Those who wait to read, and those who wait to write.
    pub read_queue: WaitQueue,
    /// See `read_queue`.
    pub write_queue: WaitQueue,
}

impl Pipe {
    /// An empty pipe without ends.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: RefCell::new(VecDeque::new()),
            capacity: Cell::new(CAPACITY),
            readers: Cell::new(0),
            writers: Cell::new(0),
            opened: [const { Cell::new(0) }; 2],
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
        }
    }

    /// An end is opened.
    pub fn open(&self, reads: bool, writes: bool) {
        if reads {
            self.readers.set(self.readers.get() + 1);
            self.opened[0].set(self.opened[0].get() + 1);
            self.write_queue.wake();
        }
        if writes {
            self.writers.set(self.writers.get() + 1);
            self.opened[1].set(self.opened[1].get() + 1);
            self.read_queue.wake();
        }
    }

    /// An end is closed.
    pub fn close(&self, reads: bool, writes: bool) {
        if reads {
            self.readers.set(self.readers.get().saturating_sub(1));
            if self.readers.get() == 0 {
                self.write_queue.wake();
            }
        }
        if writes {
            self.writers.set(self.writers.get().saturating_sub(1));
            if self.writers.get() == 0 {
                self.read_queue.wake();
            }
        }
        if self.readers.get() == 0 && self.writers.get() == 0 {
            self.bytes.borrow_mut().clear();
        }
    }

    /// Open readers and writers.
    #[must_use]
    pub fn ends(&self) -> (u32, u32) {
        (self.readers.get(), self.writers.get())
    }

    /// Bytes in it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Its capacity.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Changes the capacity.
    ///
    /// # Errors
    /// `EPERM` beyond the limit, `EBUSY` below what is in it.
    pub fn set_capacity(&self, wanted: usize) -> Result<usize, Errno> {
        if wanted > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        let capacity = wanted.max(PIPE_BUF).next_power_of_two();
        if capacity < self.length() {
            return Err(Errno::EBUSY);
        }
        self.capacity.set(capacity);
        self.write_queue.wake();
        Ok(capacity)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `EAGAIN`, waits; `EFAULT`.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if sink.room() == 0 {
            return Ok(0);
        }
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() {
            if self.writers.get() == 0 {
                return Ok(0);
            }
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.read_queue.join(waiter);
            return Err(WAIT);
        }
        let count = bytes.len().min(sink.room());
        let (first, second) = bytes.as_slices();
        let from_first = first.len().min(count);
        sink.put(first.get(..from_first).unwrap_or_default())?;
        sink.put(second.get(..count - from_first).unwrap_or_default())?;
        bytes.drain(..count);
        drop(bytes);
        self.write_queue.wake();
        Ok(count)
    }

    /// Writes; the caller sends SIGPIPE for `EPIPE`. What could be written before it has to wait is in the source's count.
    ///
    /// # Errors
    /// `EPIPE`, `EAGAIN`, waits; `EFAULT`.
    pub fn write(
        &self,
        source: &mut Source<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.readers.get() == 0 {
            return Err(Errno::EPIPE.into());
        }
        let wanted = source.left();
        if wanted == 0 {
            return Ok(0);
        }
        let mut bytes = self.bytes.borrow_mut();
        let room = self.capacity.get().saturating_sub(bytes.len());
        if room == 0 || (wanted <= PIPE_BUF && room < wanted && source.done() == 0) {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.write_queue.join(waiter);
            return Err(WAIT);
        }
        let count = wanted.min(room);
        let mut left = count;
        let mut chunk = [0; 1024];
        while left > 0 {
            let now = left.min(chunk.len());
            let part = chunk.get_mut(..now).unwrap_or_default();
            source.take(part)?;
            bytes.extend(part.iter());
            left -= now;
        }
        drop(bytes);
        self.read_queue.wake();
        Ok(count)
    }

    /// What poll(2) says of an end.
    #[must_use]
    pub fn poll(&self, reads: bool, writes: bool) -> u32 {
        let mut mask = 0;
        if reads {
            if self.length() > 0 {
                mask |= POLLIN | POLLRDNORM;
            }
            if self.writers.get() == 0 {
                mask |= POLLHUP;
            }
        }
        if writes {
            if self.capacity.get().saturating_sub(self.length()) >= PIPE_BUF {
                mask |= POLLOUT | POLLWRNORM;
            }
            if self.readers.get() == 0 {
                mask |= POLLERR;
            }
        }
        mask
    }
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}
