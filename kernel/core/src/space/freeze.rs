//! Freezing: making what a Space holds immutable for ever.

use super::{
    ENTRY_COST, Freezing, SLICE, Space,
    entry::{BORROWED, COW, DEVICE},
    load, page,
    tree::{LEAF_PAGES, Reach, leaf_index},
};
use kernel_abi::{Error, PAGE_SHIFT, space::SpaceUse};
use kernel_machine::atomic::Ordering;
use kernel_machine::object::Work;

impl Space {
    /// One slice of freezing: whether it is done. The first slice stops all changes; if a frame turns out to be referenced or pinned
    /// elsewhere, they are allowed again.
    ///
    /// # Errors
    /// `FrameInUse`; `BadArgument` for a Space that threads run in.
    pub fn freeze(&self) -> Result<bool, Error> {
        if self.used_for != SpaceUse::Hold || self.is_device {
            return Err(Error::BadArgument);
        }
        let mut state = self.space_lock.lock();
        if !self.is_open() && self.freezing.load(Ordering::Acquire) != Freezing::Begun as u8 {
            return if self.is_frozen() { Ok(true) } else { Err(Error::Frozen) };
        }
        if self.freezing.swap(Freezing::Begun as u8, Ordering::AcqRel) == Freezing::No as u8 {
            state.checked = 0;
        }
        let end = self.bounds().1 >> PAGE_SHIFT;
        let mut work = Work::new(SLICE);
        while state.checked < end {
            if !work.spend(ENTRY_COST) {
                return Ok(false);
            }
            match self.check_leaf(state.checked, &mut work) {
                Ok(next) => state.checked = next,
                Err(error) => {
                    self.freezing.store(Freezing::No as u8, Ordering::Release);
                    return Err(error);
                }
            }
        }
        self.freezing.store(Freezing::Frozen as u8, Ordering::Release);
        Ok(true)
    }

    /// Checks the rest of a leaf table; the page after what was checked.
    fn check_leaf(&self, page: u64, work: &mut Work) -> Result<u64, Error> {
        let leaf = match self.tree.reach(page) {
            Reach::Span { pages, .. } => return Ok(page + pages),
            Reach::Leaf(leaf) => leaf,
        };
        let mut next = page;
        for word in leaf.iter().skip(leaf_index(page)) {
            let entry = load(word);
            if entry.is_busy() || entry.has(DEVICE) {
                return Err(Error::FrameInUse);
            }
            if entry.has_frame() && !entry.has(BORROWED) {
                if !page::is_sole(entry.frame()) {
                    return Err(Error::FrameInUse);
                }
                if entry.has(COW) {
                    super::store(word, entry.without_history(COW));
                }
            }
            next += 1;
            if !work.spend(ENTRY_COST) {
                break;
            }
        }
        debug_assert!(next - page <= LEAF_PAGES);
        Ok(next)
    }
}
