//! Pages of file data: frames of the home Space that can be mapped into guests as well.
//!
//! A page that goes is unmapped, never used again for something else while a guest may still have its frame; pages that no guest ever had are kept for reuse.

use crate::linux::Errno;
use alloc::vec::Vec;
use core::cell::Cell;
use kernel_abi::{PAGE_SIZE, layout::HOME_BASE, resource::Resource, space::Access};
use rt::sync::SpinLock;

/// Pages of one piece of address range.
const CHUNK: u64 = 512;
/// Pages of the first one, which finds place where the personality has a page table already.
const FIRST_CHUNK: u64 = 32;
/// Free pages with frames that are kept.
const KEPT: usize = 64;
/// Pages that file data leaves to programs and to the personality.
const LEFT: u64 = 128;
/// Pages that may be taken before the budget is looked at again.
const CREDIT: u64 = 32;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
/// Flag of `SpaceZero`: guests may run what is in the pages.
const MAY_EXECUTE: u64 = 1 << 10;

/// Free places without frames, and free pages with them.
struct Arena {
    next: u64,
    end: u64,
    holes: Vec<u64>,
    kept: [u64; KEPT],
    kept_count: usize,
    /// Pages that may be taken without a look at the budget.
    credit: u64,
}

static ARENA: SpinLock<Arena> = SpinLock::new(Arena {
    next: 0,
    end: 0,
    holes: Vec::new(),
    kept: [0; KEPT],
    kept_count: 0,
    credit: 0,
});

/// A page.
#[derive(Debug)]
pub struct Page {
    offset: u64,
    is_mapped: Cell<bool>,
}

impl Page {
    /// A page of zeros.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn zeroed() -> Result<Self, Errno> {
        let (page, is_fresh) = Self::take()?;
        if !is_fresh {
            page.zero(0, PAGE_SIZE as usize);
        }
        Ok(page)
    }

    /// A page whose contents are about to be written as a whole.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn uninitialised() -> Result<Self, Errno> {
        Self::take().map(|(page, _)| page)
    }

    /// A page, and whether it is zero.
    fn take() -> Result<(Self, bool), Errno> {
        let mut arena = ARENA.lock();
        if let Some(count) = arena.kept_count.checked_sub(1) {
            arena.kept_count = count;
            let offset = arena.kept.get(count).copied().ok_or(Errno::ENOMEM)?;
            return Ok((Self { offset, is_mapped: Cell::new(false) }, false));
        }
        arena.spend_credit()?;
        let offset = match arena.holes.pop() {
            Some(offset) => offset,
            None => arena.extend()?,
        };
        let home = rt::startup::home_space();
        if home.zero(offset, 1, Access::READ | Access::WRITE, POPULATE | MAY_EXECUTE).is_err() {
            let _ = home.unmap(offset, 1);
            arena.holes.push(offset);
            return Err(Errno::ENOMEM);
        }
        Ok((Self { offset, is_mapped: Cell::new(false) }, true))
    }

    /// Its offset in the home Space, for mapping it into a guest.
    #[must_use]
    pub fn home_offset(&self) -> u64 {
        self.is_mapped.set(true);
        self.offset
    }

    fn at(&self, within: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut((HOME_BASE + self.offset) as usize + within)
    }

    /// Address of a byte, for copies that a guest's faults may end.
    pub(super) const fn address(&self, within: usize) -> u64 {
        HOME_BASE + self.offset + within as u64
    }

    /// Copies bytes out.
    pub fn read(&self, within: usize, buffer: &mut [u8]) {
        if within + buffer.len() <= PAGE_SIZE as usize {
            // SAFETY: the range is inside the page; a guest that writes it meanwhile makes the bytes any bytes.
            unsafe { core::ptr::copy(self.at(within), buffer.as_mut_ptr(), buffer.len()) };
        }
    }

    /// Copies bytes in.
    pub fn write(&self, within: usize, bytes: &[u8]) {
        if within + bytes.len() <= PAGE_SIZE as usize {
            // SAFETY: as for `read`.
            unsafe { core::ptr::copy(bytes.as_ptr(), self.at(within), bytes.len()) };
        }
    }

    /// Fills with zeros.
    pub fn zero(&self, within: usize, length: usize) {
        if within + length <= PAGE_SIZE as usize {
            // SAFETY: as for `read`.
            unsafe { core::ptr::write_bytes(self.at(within), 0, length) };
        }
    }
}

impl Arena {
    /// Counts a page that is about to be taken.
    fn spend_credit(&mut self) -> Result<(), Errno> {
        if self.credit == 0 {
            let frames = rt::Domain::OWN.stat(Resource::Frames).map_err(|_| Errno::ENOMEM)?;
            let free = frames.limit.saturating_sub(frames.used);
            self.credit = free.saturating_sub(LEFT).min(CREDIT);
        }
        self.credit = self.credit.checked_sub(1).ok_or(Errno::ENOMEM)?;
        Ok(())
    }

    fn extend(&mut self) -> Result<u64, Errno> {
        if self.next == self.end {
            let pages = if self.end == 0 { FIRST_CHUNK } else { CHUNK };
            self.next = rt::view::reserve(pages).map_err(|_| Errno::ENOMEM)?;
            self.end = self.next + pages * PAGE_SIZE;
        }
        let offset = self.next;
        self.next += PAGE_SIZE;
        Ok(offset)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut arena = ARENA.lock();
        let count = arena.kept_count;
        if !self.is_mapped.get()
            && let Some(place) = arena.kept.get_mut(count)
        {
            *place = self.offset;
            arena.kept_count += 1;
            return;
        }
        if rt::startup::home_space().unmap(self.offset, 1).is_ok() {
            arena.holes.push(self.offset);
        }
    }
}
