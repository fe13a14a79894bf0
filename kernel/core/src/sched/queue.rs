//! A CPU's run queue: services first in turn, then compartments by virtual time.
//!
//! Compartment threads lie in a ring of 64 buckets of virtual time; a thread is put as far behind the present as it is ahead of the others, so
//! that every Domain's threads advance in proportion to its weight. All steps take constant time; the order inside
//! a bucket is that of arrival, and who is further ahead than the ring reaches waits in its last bucket, again and again until its turn comes.

use crate::thread::{RUN_LINK, Thread};
use kernel_machine::atomic::Ordering;
use kernel_machine::object::{Queue, Ref};

const BUCKETS: usize = 64;
/// Bucket number of the service queue.
const SERVICES: usize = BUCKETS;
/// Threads that one choice passes over because they are too far ahead.
const MAX_PASSED: usize = 64;
/// Threads of a bucket that stealing looks at.
const STEAL_DEPTH: usize = 8;

/// The queue.
pub(super) struct RunQueue {
    services: Queue<Thread, RUN_LINK>,
    ring: [Queue<Thread, RUN_LINK>; BUCKETS],
    occupied: u64,
    /// Virtual time of the bucket `first`, in buckets.
    present: u64,
    length: usize,
}

impl RunQueue {
    /// An empty queue.
    #[must_use]
    pub(super) const fn new() -> Self {
        Self {
            services: Queue::new(),
            ring: [const { Queue::new() }; BUCKETS],
            occupied: 0,
            present: 0,
            length: 0,
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a thread, unless it is in the queue already; one that has slept does not bring more than nothing along.
    pub(super) fn push(&mut self, thread: Ref<Thread>, grain: u32) -> bool {
        let place = if thread.domain().schedule.is_service() {
            SERVICES
        } else {
            let time = (thread.sched.virtual_time.load(Ordering::Relaxed) >> grain).max(self.present);
            thread.sched.virtual_time.fetch_max(self.present << grain, Ordering::Relaxed);
            let ahead = (time - self.present).min(BUCKETS as u64 - 1);
            ((self.present + ahead) % BUCKETS as u64) as usize
        };
        let queue = self.ring.get_mut(place).unwrap_or(&mut self.services);
        let added = queue.push(thread).is_ok();
        if added {
            self.length += 1;
            if place < BUCKETS {
                self.occupied |= 1 << place;
            }
        }
        added
    }

    /// Takes the thread whose turn it is.
    pub(super) fn pop(&mut self, grain: u32) -> Option<Ref<Thread>> {
        if let Some(thread) = self.services.pop() {
            self.length -= 1;
            return Some(thread);
        }
        for _ in 0..MAX_PASSED {
            let thread = self.pop_ring()?;
            let time = thread.sched.virtual_time.load(Ordering::Relaxed) >> grain;
            if time <= self.present || self.length == 0 {
                return Some(thread);
            }
            // It was further ahead than the ring reaches, and still is: its turn has not come.
            self.push(thread, grain);
        }
        self.pop_ring()
    }

    fn pop_ring(&mut self) -> Option<Ref<Thread>> {
        if self.occupied == 0 {
            return None;
        }
        let here = (self.present % BUCKETS as u64) as u32;
        let ahead = self.occupied.rotate_right(here).trailing_zeros();
        self.present += u64::from(ahead);
        self.take((self.present % BUCKETS as u64) as usize, Queue::pop)
    }

    /// Takes a thread that another CPU may run.
    pub(super) fn steal(&mut self, may_take: impl Fn(&Thread) -> bool) -> Option<Ref<Thread>> {
        if let Some(thread) = self.services.take_first(STEAL_DEPTH, &may_take) {
            self.length -= 1;
            return Some(thread);
        }
        let mut left = self.occupied;
        while left != 0 {
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(thread) = self.take(place, |queue| queue.take_first(STEAL_DEPTH, &may_take)) {
                return Some(thread);
            }
        }
        None
    }

    fn take(
        &mut self,
        place: usize,
        take: impl FnOnce(&mut Queue<Thread, RUN_LINK>) -> Option<Ref<Thread>>,
    ) -> Option<Ref<Thread>> {
        let queue = self.ring.get_mut(place)?;
        let thread = take(queue);
        if queue.is_empty() {
            self.occupied &= !(1 << place);
        }
        if thread.is_some() {
            self.length -= 1;
        }
        thread
    }
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}
