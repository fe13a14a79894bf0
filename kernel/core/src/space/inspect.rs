//! Looking at a Space, pinning its pages, copying between two.

use super::{
    ENTRY_COST, FRAME_COST, SLICE, Space,
    edit::partial,
    entry::{BORROWED, COW, DEVICE, PINNED, PageEntry},
    load, lock_pair, page, store,
    tree::{Reach, leaf_index, note},
};
use core::slice;
use kernel_abi::{
    Error,
    space::{Access, PageState},
};
use kernel_machine::{
    self as machine, Frame,
    object::{Borrow, Work},
};

/// What `query` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The page.
    pub page: u64,
    /// Its state.
    pub state: PageState,
    /// Its access.
    pub access: Access,
    /// Whether it was accessed, and written.
    pub touched: (bool, bool),
    /// Pages of the same state and access that follow, as far as was looked.
    pub following: u64,
}

impl Space {
    /// What is at a page.
    fn at(&self, page: u64, work: &mut Work) -> (PageEntry, u64) {
        match self.tree.reach(page) {
            Reach::Leaf(leaf) => (load(&leaf[leaf_index(page)]), 1),
            Reach::Span { entry, .. } if entry.is_hole() => (entry, self.tree.hole_run(page, work)),
            Reach::Span { entry, pages, .. } => (entry, pages),
        }
    }

    /// Describes the first page that is not a hole. If the slice ends before one is found, the answer is a hole at the page
    /// where to go on.
    ///
    /// # Errors
    /// `NotPresent` if there are only holes.
    pub fn query(&self, first: u64, pages: u64) -> Result<Found, Error> {
        let _state = self.space_lock.lock();
        let mut work = Work::new(SLICE);
        let end = first + pages;
        let mut page = first;
        let mut current = self.at(page, &mut work);
        while current.0.is_hole() {
            page = page.saturating_add(current.1);
            if page >= end {
                return Err(Error::NotPresent);
            }
            if !work.spend(2 * ENTRY_COST) {
                let following = 0;
                return Ok(Found {
                    page,
                    state: PageState::Hole,
                    access: Access::empty(),
                    touched: (false, false),
                    following,
                });
            }
            current = self.at(page, &mut work);
        }
        let (entry, mut span) = current;
        let mut next = page + span;
        while next < end && work.spend(2 * ENTRY_COST) {
            let (other, more) = self.at(next, &mut work);
            if other.state() != entry.state()
                || other.access() != entry.access()
                || other.touched() != entry.touched()
            {
                break;
            }
            span += more;
            next += more;
        }
        let following = span.min(end - page) - 1;
        Ok(Found { page, state: entry.state(), access: entry.access(), touched: entry.touched(), following })
    }

    /// Pins a page for DMA.
    ///
    /// # Errors
    /// `Hole`, `FrameInUse`, `Frozen`.
    pub fn pin(&self, page: u64) -> Result<Frame, Error> {
        let _state = self.lock_for_edit()?;
        let Reach::Leaf(leaf) = self.tree.reach(page) else { return Err(Error::Hole) };
        let word = &leaf[leaf_index(page)];
        let entry = load(word);
        if !entry.has_frame() {
            return Err(Error::Hole);
        }
        if entry.has(COW) || entry.has(BORROWED) || entry.has(DEVICE) {
            return Err(Error::FrameInUse);
        }
        if !entry.has(PINNED) {
            page::pin(entry.frame());
            store(word, PageEntry(entry.0 | PINNED));
        }
        Ok(entry.frame())
    }

    /// Fills an empty Space with device memory.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub fn fill_device(&self, address: u64, pages: u64) -> Result<(), Error> {
        let _state = self.lock_for_edit()?;
        for page in 0..pages {
            let leaf = self.tree.reach_leaf(page, self.domain())?;
            store(&leaf[leaf_index(page)], PageEntry::device(address + (page << kernel_abi::PAGE_SHIFT)));
        }
        Ok(())
    }

    /// Puts a frame that boot provides into the Space, counted once.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub fn insert(&self, page: u64, frame: Frame, access: Access) -> Result<(), Error> {
        let _state = self.space_lock.lock();
        let leaf = self.tree.reach_leaf(page, self.domain())?;
        page::adopt(frame, self.domain().clone());
        let history = super::entry::MAX_EXECUTE
            | if access.contains(Access::WRITE) { super::entry::MAX_WRITE } else { 0 };
        let word = &leaf[leaf_index(page)];
        note(slice::from_ref(word));
        store(word, PageEntry::page(frame, history, access));
        Ok(())
    }

    /// The frame of a page that its Space may write without further ado: a state page.
    ///
    /// # Errors
    /// `BadArgument` if it is not such a page.
    pub fn writable_frame(&self, page: u64) -> Result<Frame, Error> {
        self.resolve(page, Access::READ | Access::WRITE).map_err(|_| Error::BadArgument)?;
        let _state = self.space_lock.lock();
        let entry = self.at(page, &mut Work::new(SLICE)).0;
        if entry.is_counted() && entry.is_writable_now() {
            page::add_reference(entry.frame())?;
            return Ok(entry.frame());
        }
        Err(Error::BadArgument)
    }
}

/// Copies whole pages from one Space to another; the number of pages dealt with.
///
/// # Errors
/// `Hole`, `Frozen`, `OutOfFrames`, `MissingRight` (a destination page is not writable), `Overlap` (one Space, overlapping ranges).
pub fn copy(
    to: Borrow<'_, Space>,
    first: u64,
    from: Borrow<'_, Space>,
    from_first: u64,
    pages: u64,
) -> Result<u64, Error> {
    if to.is(from) && first.abs_diff(from_first) < pages {
        return Err(Error::Overlap);
    }
    let mut work = Work::new(SLICE);
    let mut done = 0;
    while done < pages && !work.is_spent() {
        if let Err(error) = copy_page(to, first + done, from, from_first + done) {
            return partial(done, error);
        }
        work.spend(2 * FRAME_COST);
        done += 1;
    }
    Ok(done)
}

fn copy_page(to: Borrow<'_, Space>, page: u64, from: Borrow<'_, Space>, from_page: u64) -> Result<(), Error> {
    to.resolve(page, Access::READ | Access::WRITE)?;
    let _pair = lock_pair(&to, &from);
    if !to.is_open() {
        return Err(Error::Frozen);
    }
    let target = to.at(page, &mut Work::new(SLICE)).0;
    if !target.is_writable_now() || target.has(DEVICE) {
        return Err(if target.is_hole() { Error::Hole } else { Error::MissingRight });
    }
    let source = from.at(from_page, &mut Work::new(SLICE)).0;
    if source.is_zero() {
        machine::zero(target.frame());
    } else if source.has_frame() && !source.has(DEVICE) {
        machine::copy(target.frame(), source.frame());
    } else {
        return Err(Error::Hole);
    }
    Ok(())
}
