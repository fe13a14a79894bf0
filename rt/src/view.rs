//! Address ranges for other Spaces, stacks and state pages: the views' areas of the home region.
//!
//! The first areas are small and near what every program has, so that small views need no page-table page of their own. Ranges come in powers of two, from a page to some GiB; a freed range is used again for the same size.

use crate::{Result, Space, startup, sync::SpinLock};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{
    Error, PAGE_SHIFT,
    layout::{HOME_BASE, home},
    space::{Access, MapMode},
};

/// Sizes: 2^0 to 2^21 pages (8 GiB).
const ORDERS: usize = 22;
/// Freed ranges of each size that are remembered; more are lost until the program ends, which 448 GiB can bear.
const REMEMBERED: usize = 64;

struct Ranges {
    /// What is used of each area.
    used: [u64; home::VIEWS.len()],
    /// Freed ranges of each size.
    counts: [usize; ORDERS],
}

static RANGES: SpinLock<Ranges> =
    SpinLock::new(Ranges { used: [0; home::VIEWS.len()], counts: [0; ORDERS] });
/// The freed ranges; used while [`RANGES`] is held.
#[cfg_attr(target_os = "none", unsafe(link_section = ".bss.cold"))]
static FREED: [[AtomicU64; REMEMBERED]; ORDERS] =
    [const { [const { AtomicU64::new(0) }; REMEMBERED] }; ORDERS];

fn order_of(pages: u64) -> Result<usize> {
    let order = pages.max(1).next_power_of_two().ilog2() as usize;
    if order < ORDERS { Ok(order) } else { Err(Error::BadArgument) }
}

/// Takes a range of pages, aligned to its size rounded up to a power of two; its home offset.
///
/// # Errors
/// `BadArgument` when it is too long, `OutOfFrames` when the area is used up.
pub fn reserve(pages: u64) -> Result<u64> {
    let order = order_of(pages)?;
    let mut ranges = RANGES.lock();
    let count = ranges.counts.get(order).copied().unwrap_or(0);
    if count > 0 {
        let freed = FREED.get(order).and_then(|freed| freed.get(count - 1));
        let offset = freed.ok_or(Error::OutOfFrames)?.load(Ordering::Relaxed);
        if let Some(place) = ranges.counts.get_mut(order) {
            *place = count - 1;
        }
        return Ok(offset);
    }
    let size = 1_u64 << (order as u32 + PAGE_SHIFT);
    for (used, (from, to)) in ranges.used.iter_mut().zip(home::VIEWS) {
        let start = (from + *used).next_multiple_of(size);
        if let Some(end) = start.checked_add(size).filter(|end| *end <= to) {
            *used = end - from;
            return Ok(start);
        }
    }
    Err(Error::OutOfFrames)
}

/// Gives a range back, which must be holes.
pub fn give_back(offset: u64, pages: u64) {
    let Ok(order) = order_of(pages) else { return };
    let mut ranges = RANGES.lock();
    let count = ranges.counts.get(order).copied().unwrap_or(REMEMBERED);
    if let Some(place) = FREED.get(order).and_then(|freed| freed.get(count)) {
        place.store(offset, Ordering::Relaxed);
        if let Some(count) = ranges.counts.get_mut(order) {
            *count += 1;
        }
    }
}

/// Another Space, or zeroed memory, mapped into this program.
#[derive(Debug)]
pub struct View {
    offset: u64,
    pages: u64,
}

impl View {
    /// Maps a range of a Space.
    ///
    /// # Errors
    /// As `SpaceMap`; nothing stays mapped then.
    pub fn map(space: Space, from: u64, pages: u64, access: Access) -> Result<Self> {
        let view = Self { offset: reserve(pages)?, pages };
        startup::home_space().map(
            view.offset,
            space,
            from,
            pages,
            MapMode::Share,
            access,
            false,
        )?;
        Ok(view)
    }
    /// Zeroed memory of the program's own.
    ///
    /// # Errors
    /// As `SpaceZero`.
    pub fn zeroed(pages: u64) -> Result<Self> {
        let view = Self { offset: reserve(pages)?, pages };
        startup::home_space().zero(view.offset, pages, Access::READ | Access::WRITE, 0)?;
        Ok(view)
    }
    /// Its home offset.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> u64 {
        HOME_BASE + self.offset
    }
    /// Its length in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.pages << PAGE_SHIFT) as usize
    }
    /// Copies bytes out of it, whatever another program does with them meanwhile.
    ///
    /// # Errors
    /// `BadArgument` when they are not all inside.
    pub fn read(&self, at: usize, buffer: &mut [u8]) -> Result<()> {
        self.check(at, buffer.len())?;
        // SAFETY: the range is inside the view.
        let from = unsafe { self.pointer().add(at) }.cast_const();
        // SAFETY: both ranges are whole, and a buffer of this program's own memory does not overlap a view.
        unsafe { core::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }
    /// Copies bytes into it; it must have been mapped writable.
    ///
    /// # Errors
    /// `BadArgument` when they do not fit inside.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.check(at, bytes.len())?;
        // SAFETY: the range is inside the view.
        let to = unsafe { self.pointer().add(at) };
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }
    /// Makes its first bytes zero; it must have been mapped writable.
    ///
    /// # Errors
    /// `BadArgument` when there are fewer.
    pub fn clear(&self, length: usize) -> Result<()> {
        self.check(0, length)?;
        // SAFETY: the range is inside the view.
        unsafe { self.pointer().write_bytes(0, length) };
        Ok(())
    }
    fn check(&self, at: usize, length: usize) -> Result<()> {
        let end = at.checked_add(length).filter(|end| *end <= self.length());
        end.map(|_| ()).ok_or(Error::BadArgument)
    }
    /// Its first byte.
    #[must_use]
    pub fn pointer(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address() as usize)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if startup::home_space().unmap(self.offset, self.pages).is_ok() {
            give_back(self.offset, self.pages);
        }
    }
}
