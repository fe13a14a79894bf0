//! A queue of bytes in one ring that grows as it is needed.

use crate::{
    linux::Errno,
    machine::guest::{Sink, Source},
};
use alloc::vec::Vec;

/// First size of a ring.
const FIRST: usize = 4096;
/// An empty ring that is larger gives its memory back.
const KEPT: usize = 64 * 1024;

/// Bytes in order.
#[derive(Debug, Default)]
pub struct ByteQueue {
    /// Its length is zero or a power of two.
    ring: Vec<u8>,
    head: usize,
    length: usize,
}

impl ByteQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { ring: Vec::new(), head: 0, length: 0 }
    }
    /// Bytes in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes room for more bytes.
    ///
    /// # Errors
    /// `ENOBUFS` when memory is exhausted.
    fn grow(&mut self, more: usize) -> Result<(), Errno> {
        let needed = self.length + more;
        if needed <= self.ring.len() {
            return Ok(());
        }
        let size = needed.next_power_of_two().max(FIRST);
        let mut ring = Vec::new();
        ring.try_reserve_exact(size).map_err(|_| Errno::ENOBUFS)?;
        let (first, second) = self.slices(self.length);
        ring.extend_from_slice(first);
        ring.extend_from_slice(second);
        ring.resize(size, 0);
        self.ring = ring;
        self.head = 0;
        Ok(())
    }

    /// The first bytes, in at most two pieces.
    fn slices(&self, count: usize) -> (&[u8], &[u8]) {
        let first = count.min(self.ring.len() - self.head);
        (
            self.ring.get(self.head..self.head + first).unwrap_or_default(),
            self.ring.get(..count - first).unwrap_or_default(),
        )
    }

    /// Appends bytes of a source, which must be left in it. Nothing is appended on an error.
    ///
    /// # Errors
    /// `EFAULT`, `ENOBUFS`.
    pub fn fill(&mut self, source: &mut Source<'_>, count: usize) -> Result<(), Errno> {
        self.grow(count)?;
        let size = self.ring.len();
        let start = if size == 0 { 0 } else { (self.head + self.length) & (size - 1) };
        let first = count.min(size - start);
        source.take(self.ring.get_mut(start..start + first).unwrap_or_default())?;
        source.take(self.ring.get_mut(..count - first).unwrap_or_default())?;
        self.length += count;
        Ok(())
    }

    /// Copies bytes from a place in the queue to a sink, and leaves them there.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn copy(&self, from: usize, sink: &mut Sink<'_>, count: usize) -> Result<(), Errno> {
        let (first, second) = self.slices(from + count);
        let skipped = first.get(from..).unwrap_or_default();
        sink.put(skipped)?;
        sink.put(second.get(from.saturating_sub(first.len())..).unwrap_or_default())
    }

    /// Forgets the first bytes.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        if self.length > 0 {
            self.head = (self.head + count) & (self.ring.len() - 1);
        } else {
            self.head = 0;
            if self.ring.len() > KEPT {
                self.ring = Vec::new();
            }
        }
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue holds what a plain vector holds, around the end of the ring and over growth.
    #[test]
    fn behaves_like_a_vector() {
        let mut queue = ByteQueue::new();
        let mut model: Vec<u8> = Vec::new();
        let mut next = 0_u8;
        for step in 0..2000_usize {
            let count = (step * 7919) % 3000;
            if step % 3 < 2 && model.len() < 60_000 {
                let bytes: Vec<u8> = (0..count).map(|at| next.wrapping_add(at as u8)).collect();
                next = next.wrapping_add(count as u8);
                queue.fill(&mut Source::kernel(&bytes), count).expect("memory is there");
                model.extend_from_slice(&bytes);
            } else {
                let count = count.min(model.len());
                let from = count / 3;
                let mut out = alloc::vec![0; count - from];
                queue
                    .copy(from, &mut Sink::kernel(&mut out), count - from)
                    .expect("the sink has room");
                assert_eq!(out, model[from..count]);
                queue.skip(count);
                model.drain(..count);
            }
            assert_eq!(queue.len(), model.len());
        }
    }
}
