//! The heap: small blocks by size classes, cut one after the other from pages that all classes share; runs of pages by a buddy system.
//!
//! Frames are asked for when the heap grows, not when memory is touched: a program at its limit gets a failed allocation, never a fault. One byte per page
//! says whether a run begins there and is free. Large runs that become free give their frames back. A program that has just begun has touched few
//! pages: those of the first pages lie among the statics, which are zero at first, and the table of the rest grows down from where the pages begin.
//!
//! ```text
//! HEAP                      table: a byte for each page of the rest, from its end down
//! HEAP + 16 MiB = PAGES     pages; the first is never used, so that 0 says none
//! ```

mod reserve;

use crate::{
    Result, startup,
    sync::{Mutex, SpinLock},
};
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};
use kernel_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    layout::{HOME_BASE, home},
    space::Access,
};
pub(crate) use reserve::has_reserve;
pub use reserve::{is_short, keep_reserve};

/// Bytes of the table.
const TABLE: u64 = 16 << 20;
/// First page's home offset.
const PAGES: u64 = home::HEAP + TABLE;
/// Orders of runs: 1 page to 4 GiB.
const ORDERS: usize = 21;
/// Order of the runs that the heap grows by: a quarter of what it has, between these.
const GROWTH: (usize, usize) = (2, 4);
/// The least of them where a template's memory was the beginning: a short life needs little more.
const GROWTH_AFTER_TEMPLATE: usize = 1;
/// Runs of this order and above give their frames back when they are free.
const RETURNED: usize = 6;
/// Sizes of small blocks.
const CLASSES: [usize; 17] =
    [16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512, 768, 1024, 1360, 2048, 4096];
/// Mark of a free run in the table, above its order.
const FREE: u8 = 0x40;
/// Mark of a free run without frames.
const BARE: u8 = 0x80;
/// Alignment of the first page, and the most that an allocation can have.
const ALIGNED: usize = 1 << 20;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;

/// The heap's lists. Addresses are stored in the free memory itself, or for runs without frames in the table's order of search.
struct Heap {
    classes: [usize; CLASSES.len()],
    /// The rest of the pages that blocks are cut from: where it begins and ends.
    uncut: (usize, usize),
    /// Page numbers of free runs, linked through their first words.
    runs: [usize; ORDERS],
    /// Pages below have a mark, and no page from there on has frames.
    top: usize,
    table_pages: u64,
    empty_count: usize,
    /// Pages that are given up when nothing else is to be had: home offset, and how many; none without a reserve.
    reserve: (u64, u64),
}

/// The program began with a template's memory, or is the template about to rest.
static IS_COPIED: AtomicBool = AtomicBool::new(false);

/// Runs without frames that are remembered.
const EMPTY_RUNS: usize = 256;
/// Ends a list of runs.
const NONE: usize = 0;

static HEAP: Mutex<Heap> = Mutex::new(Heap {
    classes: [0; CLASSES.len()],
    uncut: (0, 0),
    runs: [NONE; ORDERS],
    top: 0,
    table_pages: 0,
    empty_count: 0,
    reserve: (0, 0),
});

/// Runs without frames, as (page, order); used while [`HEAP`] is held.
#[cfg_attr(target_os = "none", unsafe(link_section = ".bss.cold"))]
static EMPTY: SpinLock<[(usize, usize); EMPTY_RUNS]> = SpinLock::new([(0, 0); EMPTY_RUNS]);

/// Gives the frames of free pages at the end back.
pub(crate) fn trim() {
    HEAP.lock().trim();
    IS_COPIED.store(true, Ordering::Relaxed);
}

/// Whether the program began with a template's memory.
pub(crate) fn is_copied() -> bool {
    IS_COPIED.load(Ordering::Relaxed)
}

fn address(page: usize) -> usize {
    (HOME_BASE + PAGES) as usize + (page << PAGE_SHIFT)
}

fn page_of(address: usize) -> usize {
    address.wrapping_sub((HOME_BASE + PAGES) as usize) >> PAGE_SHIFT
}

/// Marks of the first pages.
static FIRST_MARKS: [AtomicU8; 64] = [const { AtomicU8::new(0) }; 64];

fn mark(page: usize) -> *mut u8 {
    if let Some(mark) = FIRST_MARKS.get(page) {
        return mark.as_ptr();
    }
    ptr::with_exposed_provenance_mut((HOME_BASE + PAGES) as usize - 1 - page)
}

fn word(address: usize) -> *mut usize {
    ptr::with_exposed_provenance_mut(address)
}

fn populate(page: usize, order: usize) -> Result<()> {
    fill(PAGES + ((page as u64) << PAGE_SHIFT), 1 << order)
}

/// Gives a range frames, all or none.
fn fill(offset: u64, pages: u64) -> Result<()> {
    let home = startup::home_space();
    home.zero(offset, pages, Access::READ | Access::WRITE, POPULATE).inspect_err(|_| {
        let _ = home.unmap(offset, pages);
    })
}

impl Heap {
    /// Pages that have a mark.
    fn marked_pages(&self) -> u64 {
        (self.table_pages * PAGE_SIZE).max(FIRST_MARKS.len() as u64)
    }

    /// Gives the frames of free pages at the top back, so that whoever begins with this memory grows it by pages that are zero.
    fn trim(&mut self) {
        let is_last = |top: usize, order: usize| {
            // SAFETY: every page below the top has a mark.
            top >> order << order == top
                && unsafe { mark(top - (1 << order)).read() } == FREE | order as u8
        };
        while let Some(order) =
            (0..ORDERS).find(|order| self.top >> order > 0 && is_last(self.top, *order))
        {
            let page = self.top - (1 << order);
            self.unlink(page, order);
            let offset = PAGES + ((page as u64) << PAGE_SHIFT);
            if startup::home_space().unmap(offset, 1 << order).is_err() {
                self.link(page, order);
                return;
            }
            self.top = page;
        }
    }

    /// Takes a run of an order.
    fn take_run(&mut self, order: usize) -> Option<usize> {
        let found = (order..ORDERS)
            .find(|larger| self.runs.get(*larger).is_some_and(|first| *first != NONE));
        if let Some(larger) = found {
            let page = *self.runs.get(larger)?;
            self.unlink(page, larger);
            self.split(page, larger, order);
            return Some(page);
        }
        if let Some(page) = self.refill_empty(order) {
            return Some(page);
        }
        self.grow(order)
    }

    /// Gives what a larger run has beyond an order back.
    fn split(&mut self, page: usize, larger: usize, order: usize) {
        for half in (order..larger).rev() {
            self.link(page + (1 << half), half);
        }
    }

    /// Uses a run without frames again.
    fn refill_empty(&mut self, order: usize) -> Option<usize> {
        let last = self.empty_count.checked_sub(1)?;
        let mut empty = EMPTY.lock();
        let index = empty.iter().take(self.empty_count).position(|(_, size)| *size >= order)?;
        let (page, size) = *empty.get(index)?;
        populate(page, size).ok()?;
        empty.swap(index, last);
        self.empty_count = last;
        self.split(page, size, order);
        Some(page)
    }

    /// Adds pages at the top.
    fn grow(&mut self, order: usize) -> Option<usize> {
        let quarter = (self.top / 4).checked_ilog2().map_or(0, |order| order as usize);
        let least = if is_copied() { GROWTH_AFTER_TEMPLATE } else { GROWTH.0 };
        let size = order.max(quarter.clamp(least, GROWTH.1));
        let page = self.top.max(1).next_multiple_of(1 << size);
        let end = page.checked_add(1 << size)?;
        if PAGES + ((end as u64) << PAGE_SHIFT) > home::HEAP_END || end as u64 > TABLE {
            return None;
        }
        while self.marked_pages() < end as u64 {
            let place = PAGES - (self.table_pages + 1) * PAGE_SIZE;
            if fill(place, 1).is_err() {
                self.give_reserve_up()?;
                fill(place, 1).ok()?;
                self.table_pages += 1;
                self.absorb_reserve(1);
                // The top is another one now.
                return self.take_run(order);
            }
            self.table_pages += 1;
        }
        if populate(page, size).is_err() {
            // Perhaps less is there.
            return self.grow_exactly(order);
        }
        // Pages skipped for alignment stay holes for ever; they cost nothing.
        self.top = end;
        self.split(page, size, order);
        Some(page)
    }

    fn grow_exactly(&mut self, order: usize) -> Option<usize> {
        if let Some(page) = self.take_top(order) {
            return Some(page);
        }
        self.give_reserve_up()?;
        let page = self.take_top(order);
        self.absorb_reserve(page.map_or(0, |_| 1 << order));
        page
    }

    /// A run of an order at the top, as far as the marks reach.
    fn take_top(&mut self, order: usize) -> Option<usize> {
        let page = self.top.max(1).next_multiple_of(1 << order);
        let end = page.checked_add(1 << order)?;
        if PAGES + ((end as u64) << PAGE_SHIFT) > home::HEAP_END || end as u64 > self.marked_pages()
        {
            return None;
        }
        populate(page, order).ok()?;
        self.top = end;
        Some(page)
    }

    fn link(&mut self, page: usize, order: usize) {
        let Some(first) = self.runs.get_mut(order) else { return };
        let next = *first;
        *first = page;
        let place = word(address(page));
        // SAFETY: the run is free and has frames, so its first word is the heap's.
        unsafe { place.write(next) };
        // SAFETY: as above for the second word.
        unsafe { place.wrapping_add(1).write(NONE) };
        // SAFETY: every page below the top has a mark, and the mark is the heap's.
        unsafe { mark(page).write(FREE | order as u8) };
        if next != NONE {
            // SAFETY: members of the list are free runs with frames, so their second words are the heap's.
            unsafe { word(address(next)).wrapping_add(1).write(page) };
        }
    }

    fn unlink(&mut self, page: usize, order: usize) {
        let place = word(address(page));
        // SAFETY: the run is in the list of its order, so its first word is the heap's.
        let next = unsafe { place.read() };
        // SAFETY: as above for the second word.
        let previous = unsafe { place.wrapping_add(1).read() };
        if next != NONE {
            // SAFETY: the next run is in the same list, so its second word is the heap's.
            unsafe { word(address(next)).wrapping_add(1).write(previous) };
        }
        if previous == NONE {
            if let Some(first) = self.runs.get_mut(order) {
                *first = next;
            }
        } else {
            // SAFETY: as above.
            unsafe { word(address(previous)).write(next) };
        }
        // SAFETY: the mark belongs to the heap.
        unsafe { mark(page).write(0) };
    }

    /// Gives a run back and joins it with its free buddies.
    fn give_run(&mut self, page: usize, order: usize) {
        let (mut page, mut order) = (page, order);
        while order + 1 < ORDERS {
            let buddy = page ^ (1 << order);
            if buddy + (1 << order) > self.top {
                break;
            }
            // SAFETY: every page below the top has a mark.
            if unsafe { mark(buddy).read() } != FREE | order as u8 {
                break;
            }
            self.unlink(buddy, order);
            page = page.min(buddy);
            order += 1;
        }
        if order >= RETURNED && self.empty_count < EMPTY_RUNS {
            let offset = PAGES + ((page as u64) << PAGE_SHIFT);
            if startup::home_space().unmap(offset, 1 << order).is_ok() {
                if let Some(place) = EMPTY.lock().get_mut(self.empty_count) {
                    *place = (page, order);
                    self.empty_count += 1;
                }
                // SAFETY: the mark belongs to the heap.
                unsafe { mark(page).write(BARE) };
                return;
            }
        }
        self.link(page, order);
    }

    fn take_block(&mut self, class: usize) -> Option<usize> {
        let first = *self.classes.get(class)?;
        if first != 0 {
            // SAFETY: a free block's first word is the heap's.
            *self.classes.get_mut(class)? = unsafe { word(first).read() };
            return Some(first);
        }
        self.cut(*CLASSES.get(class)?)
    }

    /// Cuts a new block. Blocks of a power of two are aligned to it, as [`class_of`] promises.
    #[inline(never)]
    fn cut(&mut self, size: usize) -> Option<usize> {
        if size >= PAGE_SIZE as usize {
            return self.take_run(0).map(address);
        }
        let align = if size.is_power_of_two() { size } else { CLASSES[0] };
        let place = |from: usize| (from + align - 1) & !(align - 1);
        if place(self.uncut.0) + size > self.uncut.1 {
            let page = address(self.take_run(0)?);
            if page != self.uncut.1 {
                let (from, to) = self.uncut;
                self.scatter(from, to);
                self.uncut.0 = page;
            }
            self.uncut.1 = page + PAGE_SIZE as usize;
        }
        let (from, block) = (self.uncut.0, place(self.uncut.0));
        self.scatter(from, block);
        self.uncut.0 = block + size;
        Some(block)
    }

    /// Makes free blocks of a range that is too short for what was asked for: powers of two, as large as their places are aligned.
    fn scatter(&mut self, mut from: usize, to: usize) {
        while from < to {
            let size = 1 << from.trailing_zeros().min((to - from).ilog2());
            let Some(class) = CLASS_OF.get(size / CLASSES[0]) else { return };
            self.give_block(from, usize::from(*class));
            from += size;
        }
    }

    fn give_block(&mut self, block: usize, class: usize) {
        if let Some(first) = self.classes.get_mut(class) {
            // SAFETY: the block is free from here on.
            unsafe { word(block).write(*first) };
            *first = block;
        }
    }
}

/// Classes by size, in steps of the smallest.
const CLASS_OF: [u8; PAGE_SIZE as usize / CLASSES[0] + 1] = {
    let mut classes = [0; PAGE_SIZE as usize / CLASSES[0] + 1];
    let (mut step, mut class) = (0, 0);
    while step < classes.len() {
        if step * CLASSES[0] > CLASSES[class as usize] {
            class += 1;
        }
        classes[step] = class;
        step += 1;
    }
    classes
};

/// The class of a size and alignment, if a small block serves.
#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    let mut size = layout.size().max(layout.align());
    if layout.align() > CLASSES[0] {
        // Blocks of a power of two are aligned to it.
        size = size.checked_next_power_of_two()?;
    }
    CLASS_OF.get(size.div_ceil(CLASSES[0])).map(|class| usize::from(*class))
}

fn order_of(size: usize) -> usize {
    size.div_ceil(PAGE_SIZE as usize).next_power_of_two().ilog2() as usize
}

/// The allocator of native programs.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: blocks and runs are handed out once until they come back, are large enough and aligned (classes by `class_of`, runs to their
// size); failure is null.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = HEAP.lock();
        let found = match class_of(layout) {
            Some(class) => heap.take_block(class),
            None if layout.align() > ALIGNED => None,
            None => heap.take_run(order_of(layout.size().max(layout.align()))).map(address),
        };
        found.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut heap = HEAP.lock();
        match class_of(layout) {
            Some(class) => heap.give_block(pointer.expose_provenance(), class),
            None => heap.give_run(
                page_of(pointer.expose_provenance()),
                order_of(layout.size().max(layout.align())),
            ),
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let class = class_of(layout);
        if class.is_some() && class == class_of(wanted) {
            return pointer;
        }
        // SAFETY: the size is not 0, which the caller promises.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            let kept = layout.size().min(size);
            // SAFETY: both blocks have the bytes, and a new block overlaps none that is in use.
            unsafe { ptr::copy_nonoverlapping(pointer, moved, kept) };
            // SAFETY: the caller promises that the block is in use with this layout.
            unsafe { self.dealloc(pointer, layout) };
        }
        moved
    }
}

#[cfg(target_os = "none")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_class_that_holds_a_layout_is_its_class() {
        for size in 1..=2 * PAGE_SIZE as usize {
            let class = class_of(Layout::from_size_align(size, 16).unwrap());
            assert_eq!(class, CLASSES.iter().position(|class| *class >= size), "{size}");
        }
        for align in [32, 64, 1024, 4096] {
            for size in [1, 31, 48, 1000, 1360, 4096] {
                let class = class_of(Layout::from_size_align(size, align).unwrap()).unwrap();
                assert!(CLASSES[class] >= size && CLASSES[class].is_multiple_of(align));
            }
        }
    }
}
