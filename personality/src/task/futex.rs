//! Futexes (futex(2)), private and shared between processes that share the memory.

use super::Task;
use crate::{
    linux::Errno,
    machine::guest,
    wait::{Stop, Waiter},
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::cell::RefCell;

/// Robust futexes of one list that are looked at.
const MAX_ROBUST: usize = 2048;
/// Bits of a robust futex's word.
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const OWNER: u32 = 0x3fff_ffff;

/// Where a futex is: the memory it lies in, and the address; for pages that processes share, the file's node and offset.
pub type Key = (u64, u64);

/// The key of an address that no other process waits at (FUTEX_PRIVATE_FLAG), whatever the memory is.
#[must_use]
pub fn private_key(task: &Task, address: u64) -> Key {
    (u64::from(task.process.memory.borrow().space().slot()), address)
}

/// State of a task's futex wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Waiting {
    /// It does not wait.
    #[default]
    No,
    /// It is in the queue of a key.
    Yes(Key),
    /// It was woken.
    Woken,
}

/// Who waits, its task's number, and the bits that wake it.
type Queued = (Waiter, i32, u32);

/// All waiters.
#[derive(Debug, Default)]
pub struct Futexes {
    queues: RefCell<BTreeMap<Key, Vec<Queued>>>,
}

/// The key of an address in a task's memory.
#[must_use]
pub fn key(task: &Task, address: u64) -> Key {
    let memory = task.process.memory.borrow();
    if let Some((start, area)) = memory.area_at(address)
        && area.flags & crate::linux::MAP_SHARED != 0
    {
        return match &area.file {
            Some((node, offset)) => (1 << 63 | node.id, offset + (address - start)),
            // Shared anonymous memory keeps its address over a fork; areas of unrelated processes differ in their first address most of the time.
            None => (1 << 62, address),
        };
    }
    (u64::from(memory.space().slot()), address)
}

impl Futexes {
    /// Waits while the word has a value; with the bits that wake it.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `EFAULT`, waits.
    pub fn wait(
        &self,
        task: &Task,
        (address, key_of): (u64, fn(&Task, u64) -> Key),
        expected: u32,
        bits: u32,
        deadline: u64,
    ) -> Result<u64, Stop> {
        if bits == 0 {
            return Err(Errno::EINVAL.into());
        }
        match task.futex.get() {
            Waiting::Woken => {
                task.futex.set(Waiting::No);
                return Ok(0);
            }
            Waiting::Yes(_) => {
                if rt::clock::now() >= deadline {
                    self.forget(task);
                    return Err(Errno::ETIMEDOUT.into());
                }
                return Err(Stop::Wait(deadline));
            }
            Waiting::No => {}
        }
        let key = key_of(task, address);
        if guest::load(address)? != expected {
            return Err(Errno::EAGAIN.into());
        }
        if rt::clock::now() >= deadline {
            return Err(Errno::ETIMEDOUT.into());
        }
        self.queues.borrow_mut().entry(key).or_default().push((task.waiter(), task.tid, bits));
        task.futex.set(Waiting::Yes(key));
        Err(Stop::Wait(deadline))
    }

    /// Takes a task out of its queue: its wait is over without a wake.
    pub fn forget(&self, task: &Task) {
        let waiting = task.futex.replace(Waiting::No);
        if let Waiting::Yes(key) = waiting {
            let mut queues = self.queues.borrow_mut();
            if let Some(queue) = queues.get_mut(&key) {
                queue.retain(|(_, tid, _)| *tid != task.tid);
                if queue.is_empty() {
                    queues.remove(&key);
                }
            }
        }
    }

    /// Wakes waiters of a key.
    pub fn wake(&self, processes: &super::Processes, key: Key, count: u32, bits: u32) -> u64 {
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(&key) else { return 0 };
        let mut woken = 0;
        queue.retain(|(waiter, tid, wanted)| {
            if woken >= u64::from(count) || wanted & bits == 0 {
                return true;
            }
            woken += 1;
            if let Some(task) = processes.task(*tid) {
                task.futex.set(Waiting::Woken);
            }
            rt::thread::unpark(*waiter);
            false
        });
        if queue.is_empty() {
            queues.remove(&key);
        }
        woken
    }

    /// Wakes some waiters of a key and lets others wait for another one; the number of both.
    pub fn requeue(
        &self,
        processes: &super::Processes,
        from: Key,
        to: Key,
        wake: u32,
        requeue: u32,
    ) -> (u64, u64) {
        let woken = self.wake(processes, from, wake, u32::MAX);
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(&from) else { return (woken, 0) };
        let count = queue.len().min(requeue as usize);
        let moved: Vec<_> = queue.drain(..count).collect();
        if queue.is_empty() {
            queues.remove(&from);
        }
        for (_, tid, _) in &moved {
            if let Some(task) = processes.task(*tid) {
                task.futex.set(Waiting::Yes(to));
            }
        }
        queues.entry(to).or_default().extend(moved);
        (woken, count as u64)
    }

    /// Marks the robust futexes of a task that ends.
    pub fn release_robust(&self, processes: &super::Processes, task: &Task) {
        let head = task.robust_list.replace(0);
        if head == 0 {
            return;
        }
        let Ok([first, offset, pending]) = guest::read::<[u64; 3]>(head) else { return };
        let mut entry = first;
        for _ in 0..MAX_ROBUST {
            if entry & !1 == head {
                break;
            }
            let next = guest::read::<u64>(entry & !1);
            if entry != pending {
                self.release_one(processes, task, (entry & !1).wrapping_add(offset));
            }
            match next {
                Ok(next) => entry = next,
                Err(_) => break,
            }
        }
        if pending != 0 {
            self.release_one(processes, task, (pending & !1).wrapping_add(offset));
        }
    }

    fn release_one(&self, processes: &super::Processes, task: &Task, address: u64) {
        while let Ok(word) = guest::load(address) {
            if word & OWNER != task.tid.cast_unsigned() {
                return;
            }
            if guest::exchange(address, word, word & WAITERS | OWNER_DIED) == Ok(word) {
                if word & WAITERS != 0 {
                    self.wake(processes, key(task, address), 1, u32::MAX);
                }
                return;
            }
        }
    }
}
