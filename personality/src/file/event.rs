//! eventfd(2), timerfd_create(2) and signalfd(2).

use crate::{
    linux::{Errno, POLLIN, POLLOUT},
    machine::guest::{Sink, Source},
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use core::cell::Cell;

/// An eventfd.
#[derive(Debug)]
pub struct EventCounter {
    value: Cell<u64>,
    is_semaphore: bool,
    /// Those who wait to read or write.
    pub queue: WaitQueue,
}

impl EventCounter {
    /// A counter with a value.
    #[must_use]
    pub const fn new(value: u64, is_semaphore: bool) -> Self {
        Self { value: Cell::new(value), is_semaphore, queue: WaitQueue::new() }
    }
    /// Reads eight bytes.
    ///
    /// # Errors
    /// `EINVAL`, `EAGAIN`, waits.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if sink.room() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let value = self.value.get();
        if value == 0 {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join_for(waiter, POLLIN);
            return Err(WAIT);
        }
        let taken = if self.is_semaphore { 1 } else { value };
        sink.put(&taken.to_le_bytes())?;
        self.value.set(value - taken);
        self.queue.wake_for(POLLOUT);
        Ok(8)
    }
    /// Adds a number.
    ///
    /// # Errors
    /// `EINVAL`, `EAGAIN`, waits.
    pub fn write(
        &self,
        source: &mut Source<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if source.left() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = [0; 8];
        source.take(&mut bytes)?;
        let more = u64::from_le_bytes(bytes);
        if more == u64::MAX {
            return Err(Errno::EINVAL.into());
        }
        match self.value.get().checked_add(more).filter(|sum| *sum < u64::MAX) {
            Some(sum) => {
                self.value.set(sum);
                self.queue.wake_for(POLLIN);
                Ok(8)
            }
            None if non_blocking => Err(Errno::EAGAIN.into()),
            None => {
                self.queue.join_for(waiter, POLLOUT);
                Err(WAIT)
            }
        }
    }
    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        let value = self.value.get();
        (if value > 0 { POLLIN } else { 0 }) | if value < u64::MAX - 1 { POLLOUT } else { 0 }
    }
}

/// A timer that is read. Times are TSC ticks.
#[derive(Debug)]
pub struct Timer {
    /// The clock it was created for.
    pub clock: u64,
    next: Cell<u64>,
    interval: Cell<u64>,
    expired: Cell<u64>,
    /// Those who wait for it.
    pub queue: WaitQueue,
}

impl Timer {
    /// A timer that is not set.
    #[must_use]
    pub const fn new(clock: u64) -> Self {
        Self {
            clock,
            next: Cell::new(0),
            interval: Cell::new(0),
            expired: Cell::new(0),
            queue: WaitQueue::new(),
        }
    }
    /// Sets it to expire at a time and then at intervals; 0 stops it.
    pub fn set(&self, next: u64, interval: u64) {
        self.next.set(next);
        self.interval.set(interval);
        self.expired.set(0);
        self.queue.wake();
    }
    /// Time left and interval.
    #[must_use]
    pub fn left(&self) -> (u64, u64) {
        self.update();
        let next = self.next.get();
        let left = if next == 0 { 0 } else { next.saturating_sub(rt::clock::now()).max(1) };
        (left, self.interval.get())
    }
    /// Counts expirations up to now, and says that there are some.
    fn update(&self) {
        let (now, next, interval) = (rt::clock::now(), self.next.get(), self.interval.get());
        if next == 0 || now < next {
            return;
        }
        let count = (now - next).checked_div(interval).map_or(1, |missed| missed.saturating_add(1));
        self.expired.set(self.expired.get().saturating_add(count));
        let after = interval.saturating_mul(count).saturating_add(next);
        self.next.set(if interval == 0 { 0 } else { after });
        self.queue.wake_for(POLLIN);
    }
    /// Looks at the clock; when to look again.
    pub fn tick(&self) -> u64 {
        self.update();
        self.deadline()
    }
    /// When it will expire next; `u64::MAX` for never.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        match self.next.get() {
            0 => u64::MAX,
            next => next,
        }
    }
    /// Reads the number of expirations.
    ///
    /// # Errors
    /// `EINVAL`, `EAGAIN`, waits.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if sink.room() < 8 {
            return Err(Errno::EINVAL.into());
        }
        self.update();
        if self.expired.get() == 0 {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join(waiter);
            return Err(Stop::Wait(self.deadline()));
        }
        sink.put(&self.expired.get().to_le_bytes())?;
        self.expired.set(0);
        Ok(8)
    }
    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        self.update();
        if self.expired.get() > 0 { POLLIN } else { 0 }
    }
}
