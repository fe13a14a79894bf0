//! The heap: size classes over runs of pages, runs over a buddy system.
//!
//! Frames are asked for when the heap grows, not when memory is touched: a program at its limit gets a failed allocation, never a fault. One byte per page
//! says whether a run begins there and is free. Large runs that become free give their frames back.
//!
//! ```text
//! HEAP             table: a byte for each page of the rest
//! HEAP + 16 MiB    pages
//! ```

use crate::{Result, startup, sync::Mutex};
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};
use kernel_abi::{
    PAGE_SHIFT, PAGE_SIZE,
    layout::{HOME_BASE, home},
    space::Access,
};

/// Bytes of the table.
const TABLE: u64 = 16 << 20;
/// First page's home offset.
const PAGES: u64 = home::HEAP + TABLE;
/// Orders of runs: 1 page to 4 GiB.
const ORDERS: usize = 21;
/// Order of the runs that the heap grows by.
const GROWTH: usize = 3;
/// Runs of this order and above give their frames back when they are free.
const RETURNED: usize = 6;
/// Sizes of small blocks.
const CLASSES: [usize; 15] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1360, 2048, 4096];
/// Order of the run that a class is cut from.
const CLASS_ORDERS: [usize; 15] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2];
/// Mark of a free run in the table, above its order.
const FREE: u8 = 0x40;
/// Mark of a free run without frames.
const EMPTY: u8 = 0x80;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;

/// The heap's lists. Addresses are stored in the free memory itself, or for runs without frames in the table's order of search.
struct Heap {
    classes: [usize; CLASSES.len()],
    /// Page numbers of free runs, linked through their first words; `usize::MAX` ends a list.
    runs: [usize; ORDERS],
    /// Runs without frames, as (page, order).
    empty: [(usize, usize); EMPTY_RUNS],
    empty_count: usize,
    top: usize,
    table_top: u64,
}

/// Runs without frames that are remembered.
const EMPTY_RUNS: usize = 256;
const NONE: usize = usize::MAX;

static HEAP: Mutex<Heap> = Mutex::new(Heap {
    classes: [0; CLASSES.len()],
    runs: [NONE; ORDERS],
    empty: [(0, 0); EMPTY_RUNS],
    empty_count: 0,
    top: 0,
    table_top: 0,
});

fn address(page: usize) -> usize {
    (HOME_BASE + PAGES) as usize + (page << PAGE_SHIFT)
}

fn page_of(address: usize) -> usize {
    address.wrapping_sub((HOME_BASE + PAGES) as usize) >> PAGE_SHIFT
}

fn mark(page: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut((HOME_BASE + home::HEAP) as usize + page)
}

fn word(address: usize) -> *mut usize {
    ptr::with_exposed_provenance_mut(address)
}

fn populate(page: usize, order: usize) -> Result<()> {
    let offset = PAGES + ((page as u64) << PAGE_SHIFT);
    let home = startup::home_space();
    home.zero(offset, 1 << order, Access::READ | Access::WRITE, POPULATE).inspect_err(|_| {
        let _ = home.unmap(offset, 1 << order);
    })
}

impl Heap {
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
        let index =
            self.empty.iter().take(self.empty_count).position(|(_, size)| *size >= order)?;
        let (page, size) = *self.empty.get(index)?;
        populate(page, size).ok()?;
        self.empty_count -= 1;
        let last = *self.empty.get(self.empty_count)?;
        *self.empty.get_mut(index)? = last;
        self.split(page, size, order);
        Some(page)
    }

    /// Adds pages at the top.
    fn grow(&mut self, order: usize) -> Option<usize> {
        let size = order.max(GROWTH);
        let page = self.top.next_multiple_of(1 << size);
        let end = page.checked_add(1 << size)?;
        if PAGES + ((end as u64) << PAGE_SHIFT) > home::HEAP_END || end as u64 > TABLE {
            return None;
        }
        while self.table_top < end as u64 {
            let home = startup::home_space();
            home.zero(home::HEAP + self.table_top, 1, Access::READ | Access::WRITE, POPULATE)
                .ok()?;
            self.table_top += PAGE_SIZE;
        }
        if populate(page, size).is_err() {
            // Perhaps less is there.
            return if size > order { self.grow_exactly(order) } else { None };
        }
        // Pages skipped for alignment stay holes for ever; they cost nothing.
        self.top = end;
        self.split(page, size, order);
        Some(page)
    }

    fn grow_exactly(&mut self, order: usize) -> Option<usize> {
        let page = self.top.next_multiple_of(1 << order);
        populate(page, order).ok()?;
        self.top = page + (1 << order);
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
                if let Some(place) = self.empty.get_mut(self.empty_count) {
                    *place = (page, order);
                    self.empty_count += 1;
                }
                // SAFETY: the mark belongs to the heap.
                unsafe { mark(page).write(EMPTY) };
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
        let (size, order) = (*CLASSES.get(class)?, *CLASS_ORDERS.get(class)?);
        let base = address(self.take_run(order)?);
        let count = ((PAGE_SIZE as usize) << order) / size;
        for index in (1..count).rev() {
            self.give_block(base + index * size, class);
        }
        Some(base)
    }

    fn give_block(&mut self, block: usize, class: usize) {
        if let Some(first) = self.classes.get_mut(class) {
            // SAFETY: the block is free from here on.
            unsafe { word(block).write(*first) };
            *first = block;
        }
    }
}

/// The class of a size and alignment, if a small block serves.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align());
    if layout.align() > 16 {
        // Blocks of a power of two are aligned to it.
        let size = size.next_power_of_two();
        return CLASSES.iter().position(|class| *class >= size && class.is_power_of_two());
    }
    CLASSES.iter().position(|class| *class >= size)
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
}

#[cfg(target_os = "none")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
