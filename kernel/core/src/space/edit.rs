//! Changing a Space by itself: demand-zero markers, rights, removal.

use super::{
    ENTRY_COST, FRAME_COST, SLICE, Space, TABLE_COST,
    changes::Changes,
    entry::{DEVICE, PINNED, PageEntry},
    load, page, store,
    tree::{LEAF_PAGES, Reach, WORDS_PER_UNIT, count_holes, leaf_index, note},
};
use kernel_abi::{
    Error,
    space::{Access, SpaceUse},
};
use kernel_machine::{count_until, object::Work};

/// What `zero` does beside leaving markers.
#[derive(Clone, Copy, Debug)]
pub struct ZeroOptions {
    /// Give the frames at once.
    pub populate: bool,
    /// Set the shared bit.
    pub shared: bool,
    /// What may be granted later beyond the access (execute of the pages of a `Hold` Space always may).
    pub maximum: Access,
}

impl Default for ZeroOptions {
    fn default() -> Self {
        Self { populate: false, shared: false, maximum: Access::empty() }
    }
}

impl Space {
    /// Leaves demand-zero markers in holes.
    ///
    /// # Errors
    /// `Overlap`, `Frozen`, `OutOfFrames`.
    pub fn zero(&self, first: u64, pages: u64, access: Access, options: ZeroOptions) -> Result<u64, Error> {
        let _state = self.lock_for_edit()?;
        let mut work = Work::new(SLICE);
        let mut maximum = options.maximum;
        if self.used_for == SpaceUse::Hold {
            maximum |= Access::EXECUTE;
        }
        let marker = PageEntry::zero(access, maximum, options.shared);
        let mut done = 0;
        while done < pages && !work.is_spent() {
            match self.zero_step(first + done, pages - done, marker, options.populate, &mut work) {
                Ok(step) => done += step,
                Err(error) => return partial(done, error),
            }
        }
        Ok(done)
    }

    fn zero_step(
        &self,
        page: u64,
        pages: u64,
        marker: PageEntry,
        populate: bool,
        work: &mut Work,
    ) -> Result<u64, Error> {
        if let Reach::Span { entry, word, whole, .. } = self.tree.reach(page) {
            if !entry.is_hole() {
                return Err(Error::Overlap);
            }
            if let Some(span) = whole.filter(|span| !populate && *span <= pages) {
                self.tree.mark_span(word, marker);
                work.spend(ENTRY_COST);
                return Ok(span);
            }
        }
        work.spend(TABLE_COST);
        let leaf = self.tree.reach_leaf(page, self.domain())?;
        let end = LEAF_PAGES.min(leaf_index(page) as u64 + pages) as usize;
        let words = leaf.get(leaf_index(page)..end).unwrap_or_default();
        let words = words.get(..count_holes(words) as usize).unwrap_or_default();
        if words.is_empty() {
            return Err(Error::Overlap);
        }
        if !populate {
            words.iter().for_each(|word| store(word, marker));
            work.spend(words.len() as u32 / WORDS_PER_UNIT);
            return Ok(words.len() as u64);
        }
        note(words);
        let mut done = 0;
        for word in words {
            match page::allocate_zeroed(self.domain()) {
                Ok(frame) => store(word, marker.on_frame(frame)),
                Err(error) => return partial(done, error),
            }
            done += 1;
            if !work.spend(FRAME_COST) {
                break;
            }
        }
        Ok(done)
    }

    /// Changes the access of a range within each page's maximum. Holes stay holes.
    ///
    /// # Errors
    /// `MissingRight`, `Frozen`, `OutOfFrames` (a marker must be split).
    pub fn protect(&self, first: u64, pages: u64, access: Access) -> Result<u64, Error> {
        let state = self.lock_for_edit()?;
        let mut changes = Changes::default();
        let mut work = Work::new(SLICE);
        let mut done = 0;
        let mut failed = None;
        while done < pages && failed.is_none() && !work.is_spent() {
            match self.protect_step(first + done, pages - done, access, &mut changes, &mut work) {
                Ok((step, error)) => {
                    done += step;
                    failed = error;
                }
                Err(error) => failed = Some(error),
            }
        }
        drop(state);
        changes.finish(self);
        failed.map_or(Ok(done), |error| partial(done, error))
    }

    fn protect_step(
        &self,
        page: u64,
        pages: u64,
        access: Access,
        changes: &mut Changes,
        work: &mut Work,
    ) -> Result<(u64, Option<Error>), Error> {
        if let Reach::Span { entry, word, whole, .. } = self.tree.reach(page) {
            work.spend(ENTRY_COST);
            if entry.is_hole() {
                return Ok((self.tree.hole_run(page, work).min(pages), None));
            }
            if !entry.maximum().contains(access) {
                return Err(Error::MissingRight);
            }
            if let Some(span) = whole.filter(|span| *span <= pages) {
                self.tree.mark_span(word, entry.with_access(access));
                return Ok((span, None));
            }
        }
        work.spend(TABLE_COST / 8);
        let leaf = self.tree.reach_leaf(page, self.domain())?;
        let mut done = 0;
        for word in leaf.iter().skip(leaf_index(page)).take(pages as usize) {
            let old = load(word);
            if old.is_busy() {
                return Ok((done, (done == 0).then_some(Error::WouldBlock)));
            }
            if !old.is_hole() && old.access() != access {
                if !old.maximum().contains(access) || (old.has(DEVICE) && access.contains(Access::EXECUTE)) {
                    return Ok((done, Some(Error::MissingRight)));
                }
                store(word, old.with_access(access));
                if old.is_present() {
                    changes.narrowed(page + done);
                }
            }
            done += 1;
            if !work.spend(ENTRY_COST) {
                break;
            }
        }
        Ok((done, None))
    }

    /// Gives the frames of a range back: its pages become demand-zero with the access and maximum they have. Holes and device memory stay.
    ///
    /// # Errors
    /// `Frozen`, `FrameInUse` (a pinned page).
    pub fn discard(&self, first: u64, pages: u64) -> Result<u64, Error> {
        let state = self.lock_for_edit()?;
        let mut changes = Changes::default();
        let mut work = Work::new(SLICE);
        let mut done = 0;
        let mut failed = None;
        while done < pages && failed.is_none() && !work.is_spent() && changes.has_room() {
            let (step, error) = self.discard_step(first + done, pages - done, &mut changes, &mut work);
            done += step;
            failed = error;
        }
        drop(state);
        changes.finish(self);
        failed.map_or(Ok(done), |error| partial(done, error))
    }

    fn discard_step(
        &self,
        page: u64,
        pages: u64,
        changes: &mut Changes,
        work: &mut Work,
    ) -> (u64, Option<Error>) {
        work.spend(ENTRY_COST);
        let leaf = match self.tree.reach(page) {
            Reach::Span { entry, .. } if entry.is_hole() => {
                return (self.tree.hole_run(page, work).min(pages), None);
            }
            Reach::Span { pages: rest, .. } => return (rest.min(pages), None),
            Reach::Leaf(leaf) => leaf,
        };
        let end = LEAF_PAGES.min(leaf_index(page) as u64 + pages) as usize;
        let words = leaf.get(leaf_index(page)..end).unwrap_or_default();
        let mut done = 0;
        while let Some(word) = words.get(done) {
            let old = load(word);
            if old.occupied() == 0 || old.has(DEVICE) {
                let empty =
                    count_until(words.get(done..).unwrap_or_default(), |word| PageEntry(word).occupied());
                done += empty.max(1) as usize;
                work.spend(1 + empty / WORDS_PER_UNIT);
                continue;
            }
            if old.is_busy() {
                return (done as u64, (done == 0).then_some(Error::WouldBlock));
            }
            if old.has(PINNED) {
                return (done as u64, Some(Error::FrameInUse));
            }
            store(word, old.discarded());
            if old.is_present() {
                changes.narrowed(page + done as u64);
            }
            if old.is_counted() {
                changes.release(old.frame());
            }
            done += 1;
            if !work.spend(ENTRY_COST) || !changes.has_room() {
                break;
            }
        }
        (done as u64, None)
    }

    /// Makes a range holes again.
    ///
    /// # Errors
    /// `Frozen`, `OutOfFrames` (a marker must be split), `FrameInUse` (a pinned page).
    pub fn unmap(&self, first: u64, pages: u64) -> Result<u64, Error> {
        let state = self.lock_for_edit()?;
        let mut changes = Changes::default();
        let mut work = Work::new(SLICE);
        let result = self.remove_slice(first, pages, &mut changes, &mut work);
        drop(state);
        changes.finish(self);
        result
    }

    fn remove_slice(
        &self,
        first: u64,
        pages: u64,
        changes: &mut Changes,
        work: &mut Work,
    ) -> Result<u64, Error> {
        let mut done = 0;
        while done < pages && !work.is_spent() && changes.has_room() {
            match self.remove_step(first + done, pages - done, changes, work) {
                Ok((step, error)) => {
                    done += step;
                    self.remove_tables(first, first + done, changes);
                    if let Some(error) = error {
                        return partial(done, error);
                    }
                }
                Err(error) => return partial(done, error),
            }
        }
        Ok(done)
    }

    fn remove_step(
        &self,
        page: u64,
        pages: u64,
        changes: &mut Changes,
        work: &mut Work,
    ) -> Result<(u64, Option<Error>), Error> {
        work.spend(ENTRY_COST);
        if let Reach::Span { entry, word, whole, .. } = self.tree.reach(page) {
            if entry.is_hole() {
                return Ok((self.tree.hole_run(page, work).min(pages), None));
            }
            if let Some(span) = whole.filter(|span| *span <= pages) {
                self.tree.mark_span(word, PageEntry::HOLE);
                return Ok((span, None));
            }
        }
        let leaf = self.tree.reach_leaf(page, self.domain())?;
        let end = LEAF_PAGES.min(leaf_index(page) as u64 + pages) as usize;
        let words = leaf.get(leaf_index(page)..end).unwrap_or_default();
        let mut done = 0;
        while let Some(word) = words.get(done) {
            let old = load(word);
            if old.is_hole() {
                let holes = count_holes(words.get(done..).unwrap_or_default());
                done += holes as usize;
                work.spend(holes / WORDS_PER_UNIT);
                continue;
            }
            if old.is_busy() {
                return Ok((done as u64, (done == 0).then_some(Error::WouldBlock)));
            }
            if old.has(PINNED) {
                return Ok((done as u64, Some(Error::FrameInUse)));
            }
            store(word, PageEntry::HOLE);
            if old.is_present() {
                changes.narrowed(page + done as u64);
            }
            if old.is_counted() {
                changes.release(old.frame());
                work.spend(ENTRY_COST);
            }
            done += 1;
            if !work.spend(1) || !changes.has_room() {
                break;
            }
        }
        Ok((done as u64, None))
    }

    /// Takes out the tables that end at `end` and lie wholly in the emptied range.
    fn remove_tables(&self, empty_from: u64, end: u64, changes: &mut Changes) {
        for level in 2..=self.tree.levels() {
            let span = LEAF_PAGES << (9 * (level - 2));
            if !end.is_multiple_of(span) || end < empty_from + span {
                return;
            }
            if let Some(table) = self.tree.remove_table(end - span, level) {
                changes.narrowed(end - span);
                changes.narrowed(end - 1);
                changes.release_table(table);
            }
        }
    }
}

/// The result of a slice that met an error: the prefix counts first.
pub(super) const fn partial(done: u64, error: Error) -> Result<u64, Error> {
    if done > 0 { Ok(done) } else { Err(error) }
}
