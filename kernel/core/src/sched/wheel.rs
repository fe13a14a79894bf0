//! A CPU's timers: a hierarchical wheel of waiting threads.
//!
//! Eight levels of 64 buckets; a deadline lies in the level of the highest digit (base 64) in which it differs from the wheel's present time. When the present reaches a
//! bucket above the lowest level, its threads move down, one at a time, so that no call takes long. Inserting and removing take constant time.

use crate::thread::{TIMER_LINK, Thread};
use kernel_machine::atomic::Ordering;
use kernel_machine::object::{Queue, Ref};

const LEVELS: usize = 8;
const DIGIT: u32 = 6;
const BUCKETS: usize = 1 << DIGIT;
/// Resolution: 1024 ticks.
const GRAIN: u32 = 10;

/// The wheel. Times inside are in grains.
pub(super) struct Wheel {
    present: u64,
    /// Levels that have an occupied bucket, a bit each.
    active: u32,
    occupied: [u64; LEVELS],
    buckets: [[Queue<Thread, TIMER_LINK>; BUCKETS]; LEVELS],
}

impl Wheel {
    /// An empty wheel.
    #[must_use]
    pub(super) const fn new() -> Self {
        Self {
            present: 0,
            active: 0,
            occupied: [0; LEVELS],
            buckets: [const { [const { Queue::new() }; BUCKETS] }; LEVELS],
        }
    }

    const fn digit(time: u64, level: usize) -> usize {
        (time >> (DIGIT * level as u32)) as usize % BUCKETS
    }

    /// Adds a thread with its deadline in ticks.
    pub(super) fn insert(&mut self, thread: Ref<Thread>, deadline: u64) {
        let time = (deadline >> GRAIN).saturating_add(1).max(self.present);
        let differing = (time ^ self.present) | 1;
        let level = ((63 - differing.leading_zeros()) / DIGIT) as usize;
        let (level, time) = if level < LEVELS { (level, time) } else { (LEVELS - 1, u64::MAX) };
        let bucket = Self::digit(time, level);
        thread.sched.timer_bucket.store(level * BUCKETS + bucket, Ordering::Relaxed);
        if let (Some(queue), Some(bits)) = (self.buckets[level].get_mut(bucket), self.occupied.get_mut(level))
            && queue.push(thread).is_ok()
        {
            *bits |= 1 << bucket;
            self.active |= 1 << level;
        }
    }

    /// Removes a thread, if it is here.
    pub(super) fn remove(&mut self, thread: &Ref<Thread>) -> bool {
        let place = thread.sched.timer_bucket.load(Ordering::Relaxed);
        self.take(place / BUCKETS % LEVELS, place % BUCKETS, |queue| queue.remove(thread)).is_some()
    }

    fn take(
        &mut self,
        level: usize,
        bucket: usize,
        take: impl FnOnce(&mut Queue<Thread, TIMER_LINK>) -> Option<Ref<Thread>>,
    ) -> Option<Ref<Thread>> {
        let queue = self.buckets.get_mut(level)?.get_mut(bucket)?;
        let thread = take(queue);
        if queue.is_empty() {
            self.occupied[level] &= !(1 << bucket);
            if self.occupied[level] == 0 {
                self.active &= !(1 << level);
            }
        }
        thread
    }

    /// The next bucket that has something to do: its time, level and number. Of buckets with one time the highest level comes first.
    fn next(&self) -> Option<(u64, usize, usize)> {
        let mut best: Option<(u64, usize, usize)> = None;
        let mut active = self.active;
        while active != 0 {
            let level = active.trailing_zeros() as usize % LEVELS;
            active &= active - 1;
            let here = Self::digit(self.present, level);
            let bits = self.occupied[level] >> here;
            if bits != 0 {
                let bucket = here + bits.trailing_zeros() as usize;
                let shift = DIGIT * level as u32;
                let block = self.present >> shift >> DIGIT << DIGIT;
                let time = ((block | bucket as u64) << shift).max(self.present);
                if best.is_none_or(|(earliest, ..)| time <= earliest) {
                    best = Some((time, level, bucket));
                }
            }
        }
        best
    }

    /// When to look again, in ticks.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.next().map(|(time, ..)| time << GRAIN)
    }

    /// Takes a thread whose deadline has passed; at most `steps` threads are moved down meanwhile.
    pub(super) fn pop_due(&mut self, now: u64, steps: &mut u32) -> Option<Ref<Thread>> {
        let target = now >> GRAIN;
        loop {
            match self.next() {
                Some((time, level, bucket)) if time <= target => {
                    *steps = steps.checked_sub(1)?;
                    self.present = self.present.max(time);
                    let thread = self.take(level, bucket, Queue::pop)?;
                    if level == 0 {
                        return Some(thread);
                    }
                    let deadline = thread.sched.deadline.load(Ordering::Relaxed);
                    self.insert(thread, deadline);
                }
                _ => {
                    self.present = self.present.max(target);
                    return None;
                }
            }
        }
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}
