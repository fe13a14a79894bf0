//! Resolving a touch: demand-zero pages get a frame, copy-on-write pages a copy. Everything else is the owner's business.

use super::{
    FRAME_COST, SLICE, Space, TABLE_COST,
    edit::partial,
    entry::{BORROWED, BUSY, COW, MAX_EXECUTE, MAX_WRITE, PageEntry, SHARED},
    load, page, shootdown, store,
    tree::{Reach, leaf_index, note},
};
use crate::{
    counter::{self, Counter},
    frames,
};
use core::slice;
use kernel_abi::{
    Error,
    space::{Access, SpaceUse},
};
use kernel_machine::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel_machine::{self as machine, Frame, object::Work};

/// The frame of zeros that stands for every page nobody has written; 0 before boot has made it.
static ZERO_PAGE: AtomicU32 = AtomicU32::new(0);

/// Makes the zero page.
///
/// # Errors
/// `OutOfFrames`.
pub fn boot() -> Result<(), Error> {
    let frame = frames::allocate_zeroed().ok_or(Error::OutOfFrames)?;
    ZERO_PAGE.store(frame.number(), Ordering::Release);
    Ok(())
}

/// The zero page.
///
/// # Errors
/// `OutOfFrames` before boot.
pub fn zero_page() -> Result<Frame, Error> {
    match ZERO_PAGE.load(Ordering::Acquire) {
        0 => Err(Error::OutOfFrames),
        number => Ok(Frame::new(number)),
    }
}

/// A copy that waits for the flush of the old translation.
struct Copying {
    old: PageEntry,
    new: PageEntry,
}

impl Space {
    /// Does for one page what a touch with an access needs.
    ///
    /// # Errors
    /// `Hole`, `MissingRight` (beyond the page's access), `OutOfFrames`, `Frozen`.
    pub fn resolve(&self, page: u64, wanted: Access) -> Result<(), Error> {
        let state = self.lock_for_edit()?;
        let leaf = match self.tree.reach(page) {
            Reach::Leaf(leaf) => leaf,
            Reach::Span { entry, .. } if entry.is_hole() => return Err(Error::Hole),
            Reach::Span { entry, .. } if !entry.access().contains(wanted) => {
                return Err(Error::MissingRight);
            }
            Reach::Span { .. } => self.tree.reach_leaf(page, self.domain())?,
        };
        let word = &leaf[leaf_index(page)];
        note(slice::from_ref(word));
        let Some(copying) = self.resolve_entry(page, word, wanted)? else { return Ok(()) };
        // Another CPU may still read the old frame: nobody gets the new one before it has forgotten that.
        drop(state);
        shootdown::flush(self, page, page);
        let state = self.space_lock.lock();
        // Nobody changes a busy entry or removes its table, so the word is still the page's.
        store(word, copying.new);
        drop(state);
        if copying.old.is_counted() {
            page::release(copying.old.frame());
        }
        Ok(())
    }

    /// Resolves an entry at once, or leaves it busy and says which copy must wait for a flush.
    fn resolve_entry(&self, page: u64, word: &AtomicU64, wanted: Access) -> Result<Option<Copying>, Error> {
        let old = load(word);
        if old.is_hole() {
            return Err(Error::Hole);
        }
        if old.is_busy() {
            // The touch is repeated until the copy is done.
            return Ok(None);
        }
        if !old.access().contains(wanted) {
            return Err(Error::MissingRight);
        }
        if old.is_zero() {
            store(word, self.first_touch(old, wanted)?);
            counter::add(Counter::ZeroFaults, 1);
            return Ok(None);
        }
        if !wanted.contains(Access::WRITE) || old.is_writable_now() {
            return Ok(None);
        }
        if !old.has(COW) {
            return Err(Error::MissingRight);
        }
        counter::add(Counter::CopyFaults, 1);
        if old.is_counted() && page::is_sole(old.frame()) {
            store(word, old.without_history(COW));
            return Ok(None);
        }
        let new = self.copy_of(old)?;
        // The old frame is out of sight before it is asked who may have seen it: a CPU that begins to run here now waits for the new one.
        store(word, PageEntry(BUSY));
        if shootdown::is_used_elsewhere(self) {
            return Ok(Some(Copying { old, new }));
        }
        store(word, new);
        if shootdown::is_used(self) {
            machine::flush_page(self.address_of(page));
        }
        if old.is_counted() {
            page::release(old.frame());
        }
        Ok(None)
    }

    /// The entry of a demand-zero page after its first touch: a read gets the zero page, unless the page is shared.
    fn first_touch(&self, old: PageEntry, wanted: Access) -> Result<PageEntry, Error> {
        let reads_zero =
            !wanted.contains(Access::WRITE) && !old.has(SHARED) && self.used_for == SpaceUse::Guest;
        if reads_zero {
            let history = BORROWED | COW | old.0 & (MAX_WRITE | MAX_EXECUTE);
            return Ok(PageEntry::page(zero_page()?, history, old.access()));
        }
        Ok(old.on_frame(page::allocate_zeroed(self.domain())?))
    }

    /// A copy of a page, on a frame of this Space's own.
    fn copy_of(&self, old: PageEntry) -> Result<PageEntry, Error> {
        let is_zero = zero_page().is_ok_and(|zero| zero == old.frame());
        let frame = page::allocate(self.domain())?;
        if is_zero {
            machine::zero(frame);
        } else {
            machine::copy(frame, old.frame());
        }
        Ok(old.on_frame(frame))
    }

    /// Resolves a range in slices.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_range(&self, first: u64, pages: u64, wanted: Access) -> Result<u64, Error> {
        let mut work = Work::new(SLICE);
        let mut done = 0;
        while done < pages && !work.is_spent() {
            if let Err(error) = self.resolve(first + done, wanted) {
                return partial(done, error);
            }
            work.spend(FRAME_COST.max(TABLE_COST));
            done += 1;
        }
        Ok(done)
    }
}
