//! What a program keeps for the end of memory: pages that its heap lives on when the budget is exhausted, and frames for everything of its own that it
//! might touch for the first time only then.

use super::{HEAP, Heap, ORDERS, PAGES, fill};
use crate::{Result, arch, startup, view};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel_abi::{
    Error, PAGE_SHIFT, PAGE_SIZE,
    layout::{HOME_BASE, home},
    space::Access,
};

/// Pages of the first thread's stack that a program with a reserve has.
const STACK_PAGES: u64 = 4;
/// A reserve was taken.
static HAS_RESERVE: AtomicBool = AtomicBool::new(false);
/// The reserve is given up.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Keeps pages that allocations live on when the budget is exhausted, and takes the frames of the program's own data, whose first touch might come only then.
///
/// # Errors
/// `OutOfFrames`.
pub fn keep_reserve(pages: u64) -> Result<()> {
    populate_data()?;
    let offset = view::reserve(pages)?;
    fill(offset, pages).inspect_err(|_| view::give_back(offset, pages))?;
    HEAP.lock().reserve = (offset, pages);
    HAS_RESERVE.store(true, Ordering::Relaxed);
    Ok(())
}

/// Gives the pages of the program's data that nothing has written yet frames of their own, those of the heap that a template has written, and
/// the upper end of the first thread's stack.
fn populate_data() -> Result<()> {
    let (start, end) = arch::data_bounds();
    let (top, table) = {
        let heap = HEAP.lock();
        (heap.top as u64, heap.table_pages)
    };
    let data = ((start - HOME_BASE) >> PAGE_SHIFT, (end - HOME_BASE).div_ceil(PAGE_SIZE));
    let heap = ((PAGES >> PAGE_SHIFT) - table, (PAGES >> PAGE_SHIFT) + top);
    let stack_end = home::STACK_TOP >> PAGE_SHIFT;
    for (first, end) in [data, heap, (stack_end - STACK_PAGES, stack_end)] {
        for page in first..end {
            let offset = page << PAGE_SHIFT;
            // What is a hole was skipped or given back.
            let touched = startup::home_space().resolve(offset, 1, Access::READ | Access::WRITE);
            if !matches!(touched, Ok(()) | Err(Error::Hole)) {
                return touched;
            }
        }
    }
    Ok(())
}

/// Whether the program keeps one.
pub(crate) fn has_reserve() -> bool {
    HAS_RESERVE.load(Ordering::Relaxed)
}

/// Whether the reserve is given up and cannot be had again yet: whoever can do without memory should.
#[must_use]
#[inline]
pub fn is_short() -> bool {
    IS_SHORT.load(Ordering::Relaxed) && is_still_short()
}

#[cold]
fn is_still_short() -> bool {
    let heap = HEAP.lock();
    let is_short = fill(heap.reserve.0, heap.reserve.1).is_err();
    IS_SHORT.store(is_short, Ordering::Relaxed);
    is_short
}

impl Heap {
    /// Makes the frames of the reserve available, if it is there.
    pub(super) fn give_reserve_up(&mut self) -> Option<()> {
        let (offset, pages) = self.reserve;
        if pages == 0 || IS_SHORT.swap(true, Ordering::Relaxed) {
            return None;
        }
        startup::home_space().unmap(offset, pages).ok()
    }

    /// Makes free runs of what was given up and not used: left in the budget, whoever else lives on it would take it with its next touch.
    pub(super) fn absorb_reserve(&mut self, used: u64) {
        let mut left = self.reserve.1.saturating_sub(used);
        for order in (0..ORDERS).rev() {
            if left >= 1 << order
                && let Some(page) = self.take_top(order)
            {
                self.link(page, order);
                left -= 1 << order;
            }
        }
    }
}
