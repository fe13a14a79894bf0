//! Pipes and FIFOs (pipe(7)).

use crate::{
    linux::{Errno, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM},
    machine::guest::{Sink, Source},
    net::bytes::ByteQueue,
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
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
    bytes: RefCell<ByteQueue>,
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
            bytes: RefCell::new(ByteQueue::new()),
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

    /// Whether there is something to read: waits if not, or says that it is the end (false).
    ///
    /// # Errors
    /// `EAGAIN`, waits.
    pub fn await_bytes(&self, non_blocking: bool, waiter: Waiter) -> Result<bool, Stop> {
        if !self.bytes.borrow().is_empty() {
            return Ok(true);
        }
        if self.writers.get() == 0 {
            return Ok(false);
        }
        if non_blocking {
            return Err(Errno::EAGAIN.into());
        }
        self.read_queue.join_for(waiter, POLLIN);
        Err(WAIT)
    }

    /// How many bytes of a write fit now; waits for some. A short write goes whole or not at all, unless it has `begun`.
    ///
    /// # Errors
    /// `EPIPE`, `EAGAIN`, waits.
    pub fn await_room(
        &self,
        wanted: usize,
        begun: bool,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.readers.get() == 0 {
            return Err(Errno::EPIPE.into());
        }
        let room = self.capacity.get().saturating_sub(self.length());
        if wanted > 0 && (room == 0 || wanted <= PIPE_BUF && room < wanted && !begun) {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.write_queue.join_for(waiter, POLLOUT);
            return Err(WAIT);
        }
        Ok(wanted.min(room))
    }

    /// Copies the first bytes to a sink and leaves them there; how many.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn copy(&self, sink: &mut Sink<'_>) -> Result<usize, Errno> {
        let bytes = self.bytes.borrow();
        let count = bytes.len().min(sink.room());
        bytes.copy(0, sink, count)?;
        Ok(count)
    }

    /// Forgets the first bytes: there is room.
    pub fn skip(&self, count: usize) {
        let mut bytes = self.bytes.borrow_mut();
        bytes.skip(count);
        let room = self.capacity.get().saturating_sub(bytes.len());
        drop(bytes);
        // A writer that would find no more than crumbs sleeps on.
        if room >= PIPE_BUF {
            self.write_queue.wake_for(POLLOUT | POLLWRNORM);
        }
    }

    /// Appends bytes for which there is room.
    ///
    /// # Errors
    /// `EFAULT`, `ENOBUFS`.
    pub fn fill(&self, source: &mut Source<'_>, count: usize) -> Result<(), Errno> {
        self.bytes.borrow_mut().fill(source, count)?;
        self.read_queue.wake_for(POLLIN | POLLRDNORM);
        Ok(())
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
        if sink.room() == 0 || !self.await_bytes(non_blocking, waiter)? {
            return Ok(0);
        }
        let count = self.copy(sink)?;
        self.skip(count);
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
        let begun = source.done() > 0;
        let count = self.await_room(source.left(), begun, non_blocking, waiter)?;
        if count > 0 {
            self.fill(source, count)?;
        }
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
