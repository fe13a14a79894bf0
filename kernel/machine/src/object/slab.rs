//! Slabs: cells of one size class in whole frames, without any list in the cells themselves.
//!
//! A slab's state is in its frame's metadata words: `word 0 = free cells (bit mask, low 32) | class << 32 | CPU << 40`, `word 1 = next frame |
//! previous frame << 32` in the list of slabs with free cells. Each CPU has its own lists; a cell freed elsewhere takes
//! the owner's lock. An empty slab gives its frame back.

use super::lock::{Rank, SpinLock};
use crate::{Frame, MAX_CPUS, cpu, frame_pointer, frame_words};
use core::{ptr::NonNull, sync::atomic::Ordering};
use kernel_abi::PAGE_SIZE;

/// Size of the smallest class.
const SMALLEST: usize = 128;
/// Classes: 128 bytes to a whole frame.
const CLASSES: usize = 6;
/// Slabs are the innermost locks but for the frame allocator, which has none.
const RANK: Rank = 30;

/// First frame of the list of slabs with free cells; 0 is none.
type Heads = [SpinLock<u32>; CLASSES];

static HEADS: [Heads; MAX_CPUS] = [const { [const { SpinLock::new(RANK, 0) }; CLASSES] }; MAX_CPUS];

const fn class_of(size: usize) -> usize {
    let mut class = 0;
    while class + 1 < CLASSES && SMALLEST << class < size {
        class += 1;
    }
    class
}

/// Bytes that a cell of a size really takes.
#[must_use]
pub const fn class_size(size: usize) -> usize {
    SMALLEST << class_of(size)
}

/// All cells of a class free.
const fn all_free(class: usize) -> u64 {
    let cells = PAGE_SIZE as usize / (SMALLEST << class);
    (1 << cells) - 1
}

fn link(frame: u32, next: u32, previous: u32) {
    frame_words(Frame::new(frame))[1].store(u64::from(next) | u64::from(previous) << 32, Ordering::Relaxed);
}

fn links(frame: u32) -> (u32, u32) {
    let word = frame_words(Frame::new(frame))[1].load(Ordering::Relaxed);
    (word as u32, (word >> 32) as u32)
}

fn push(head: &mut u32, frame: u32) {
    if *head != 0 {
        let (next, _) = links(*head);
        link(*head, next, frame);
    }
    link(frame, *head, 0);
    *head = frame;
}

fn unlink(head: &mut u32, frame: u32) {
    let (next, previous) = links(frame);
    if previous == 0 {
        *head = next;
    } else {
        let (_, before) = links(previous);
        link(previous, next, before);
    }
    if next != 0 {
        let (after, _) = links(next);
        link(next, after, previous);
    }
}

/// A place for a cell, or `None` if a frame is needed and `frame` has none.
pub(super) fn allocate(size: usize, frame: impl FnOnce() -> Option<Frame>) -> Option<NonNull<u8>> {
    assert!(size <= PAGE_SIZE as usize, "a kernel object larger than a frame");
    let class = class_of(size);
    let owner = cpu();
    let mut head = HEADS[owner][class].lock();
    if *head == 0 {
        let new = frame()?;
        let state = all_free(class) | (class as u64) << 32 | (owner as u64) << 40;
        frame_words(new)[0].store(state, Ordering::Relaxed);
        push(&mut head, new.number());
    }
    let number = *head;
    let state = &frame_words(Frame::new(number))[0];
    let before = state.load(Ordering::Relaxed);
    let index = (before as u32).trailing_zeros() as usize;
    let after = before & !(1 << index);
    state.store(after, Ordering::Relaxed);
    if after as u32 == 0 {
        unlink(&mut head, number);
    }
    let base = frame_pointer(Frame::new(number));
    // SAFETY: `index` is that of a cell inside the frame, so the offset stays inside it.
    let place = unsafe { base.add(index * (SMALLEST << class)) };
    NonNull::new(place)
}

/// Gives a cell's place back; the frame if its slab is empty now.
pub(super) fn free(place: NonNull<u8>) -> Option<Frame> {
    let frame = crate::frame_of(place.as_ptr());
    let state = &frame_words(frame)[0];
    let fixed = state.load(Ordering::Relaxed) >> 32;
    let (class, owner) = ((fixed & 0xff) as usize, (fixed >> 8) as usize);
    let mut head = HEADS.get(owner)?.get(class)?.lock();
    let before = state.load(Ordering::Relaxed);
    let index = (place.as_ptr().addr() % PAGE_SIZE as usize) / (SMALLEST << class);
    let after = before | 1 << index;
    state.store(after, Ordering::Relaxed);
    if before as u32 == 0 {
        push(&mut head, frame.number());
    }
    if u64::from(after as u32) != all_free(class) {
        return None;
    }
    unlink(&mut head, frame.number());
    frame_words(frame)[0].store(0, Ordering::Relaxed);
    frame_words(frame)[1].store(0, Ordering::Relaxed);
    Some(frame)
}

/// Forgets every slab; for a kernel that boots again in a host test.
#[cfg(not(target_os = "none"))]
pub(crate) fn reset() {
    for heads in &HEADS {
        for head in heads {
            *head.lock() = 0;
        }
    }
}
