//! Mapping a range of one Space into another: share, private, snapshot, move.

use super::{
    ENTRY_COST, FRAME_COST, SLICE, Space, State, TABLE_COST,
    changes::Changes,
    edit::partial,
    entry::{BORROWED, COW, DEVICE, MAX_EXECUTE, MAX_WRITE, PINNED, PageEntry, SHARED, ZERO},
    load, lock_pair, page, store,
    tree::{LEAF_PAGES, Reach, WORDS_PER_UNIT, count_holes, leaf_index, note},
};
use kernel_abi::{
    Error,
    space::{Access, MapMode},
};
use kernel_machine::atomic::AtomicU64;
use kernel_machine::{
    self as machine, Frame, Table,
    entry::{FRAME_MASK, PRESENT},
    object::{Borrow, Entry, Work},
};

/// A decoded request.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// First page in the destination.
    pub to: u64,
    /// First page in the source.
    pub from: u64,
    /// Number of pages.
    pub pages: u64,
    /// How the two relate.
    pub mode: MapMode,
    /// Access of the destination's pages (share and private).
    pub access: Access,
    /// Whether execute may be granted later, as far as the source's capability says.
    pub may_execute: bool,
    /// Set the shared bit on the destination's entries.
    pub shared: bool,
}

/// One slice under way.
struct Slice<'a, 'e> {
    mapping: Mapping,
    to: Borrow<'a, Space>,
    from: Borrow<'a, Space>,
    from_is_frozen: bool,
    crosses: bool,
    /// Changes of the source.
    changes: Changes,
    work: Work,
    entry: &'e Entry,
}

/// Entries of a run: the bits that they must have in common, those that all get, and those that each keeps.
struct Run {
    same: u64,
    alike: u64,
    kept: u64,
}

/// Maps a slice; the number of pages dealt with.
///
/// # Errors
/// `Overlap`, `Hole`, `Frozen`, `OutOfFrames`, `FrameInUse`, `MissingRight`.
pub fn map(
    to: Borrow<'_, Space>,
    from: Borrow<'_, Space>,
    mapping: Mapping,
    entry: &Entry,
) -> Result<u64, Error> {
    let is_same = to.is(from);
    let apart = mapping.to.abs_diff(mapping.from) >= mapping.pages;
    if is_same && !apart {
        return Err(Error::Overlap);
    }
    let mut pair = lock_pair(&to, &from);
    check_freezing(&to, &from, &mapping)?;
    let mut slice = Slice {
        mapping,
        to,
        from,
        from_is_frozen: from.is_frozen(),
        crosses: !to.domain().is(from.domain()),
        changes: Changes::default(),
        work: Work::new(SLICE),
        entry,
    };
    let result = slice.run(&mut pair.one, pair.other.as_deref());
    let changes = slice.changes;
    drop(pair);
    changes.finish(&from);
    result
}

fn check_freezing(to: &Space, from: &Space, mapping: &Mapping) -> Result<(), Error> {
    let writes = mapping.mode == MapMode::Share && mapping.access.contains(Access::WRITE);
    let changes_source = matches!(mapping.mode, MapMode::Snapshot | MapMode::Move) || writes;
    let is_lent = from.is_open() || (from.is_frozen() && !changes_source);
    if to.is_open() && is_lent { Ok(()) } else { Err(Error::Frozen) }
}

/// The words of a leaf table from a page on.
fn leaf_from(leaf: &Table, page: u64) -> &[AtomicU64] {
    leaf.get(leaf_index(page)..).unwrap_or(&[])
}

impl Slice<'_, '_> {
    fn run(&mut self, to_state: &mut State, from_state: Option<&State>) -> Result<u64, Error> {
        let mut done = 0;
        while done < self.mapping.pages && !self.work.is_spent() && self.changes.has_room() {
            match self.step(done, to_state, from_state) {
                Ok((step, None)) => done += step,
                Ok((step, Some(error))) => return partial(done + step, error),
                Err(error) => return partial(done, error),
            }
        }
        Ok(done)
    }

    /// Maps up to the next boundary of a table on either side.
    fn step(
        &mut self,
        done: u64,
        to_state: &mut State,
        from_state: Option<&State>,
    ) -> Result<(u64, Option<Error>), Error> {
        let (to, from) = (self.mapping.to + done, self.mapping.from + done);
        let rest = self.mapping.pages - done;
        self.work.spend(TABLE_COST / 8);
        let promised;
        let limit = rest.min(LEAF_PAGES - to % LEAF_PAGES);
        let (source, limit): (&[AtomicU64], u64) = match self.from.tree.reach(from) {
            Reach::Span { entry, .. } if entry.is_hole() => {
                if self.mapping.mode == MapMode::Share && self.crosses {
                    return Err(Error::Hole);
                }
                return Ok((self.from.tree.hole_run(from, &mut self.work).min(rest), None));
            }
            Reach::Span { entry, pages, word, whole } => {
                if let Some(span) = self.map_span(to, rest, entry, word, whole) {
                    return Ok((span, None));
                }
                if self.from_is_frozen {
                    // A frozen Space is not even split: its owner would pay for the tables. One page at a time finds the same marker.
                    promised = [AtomicU64::new(entry.0)];
                    (&promised, 1)
                } else {
                    let leaf = self.from.tree.reach_leaf(from, self.from.domain())?;
                    (leaf_from(leaf, from), limit.min(pages).min(LEAF_PAGES - from % LEAF_PAGES))
                }
            }
            Reach::Leaf(leaf) => (leaf_from(leaf, from), limit.min(LEAF_PAGES - from % LEAF_PAGES)),
        };
        let source = source.get(..limit as usize).unwrap_or(source);
        let skipped = self.leading_holes(source);
        if skipped > 0 {
            return Ok((skipped, None));
        }
        let target = leaf_from(self.to.tree.reach_leaf(to, self.to.domain())?, to);
        let count = self.map_run(source, target, to_state, from_state)?;
        if count > 0 {
            return Ok((count, None));
        }
        if !self.from_is_frozen {
            note(source);
            note(target.get(..source.len()).unwrap_or(target));
        }
        let mut count = 0;
        for (source, target) in source.iter().zip(target) {
            if let Err(error) = self.map_page(from + count, source, target, to_state, from_state) {
                return Ok((count, Some(error)));
            }
            count += 1;
            if !self.work.spend(ENTRY_COST) || !self.changes.has_room() {
                break;
            }
        }
        Ok((count, None))
    }

    /// Holes at the beginning of a leaf table's words, which need nothing done (and no table on the other side).
    fn leading_holes(&mut self, source: &[AtomicU64]) -> u64 {
        if self.mapping.mode == MapMode::Share && self.crosses {
            return 0;
        }
        let holes = count_holes(source);
        self.work.spend(holes / WORDS_PER_UNIT);
        holes.into()
    }

    /// Maps a run of pages that nothing is counted for: all entries are alike but for their frames. How many; the rest is for
    /// [`Self::map_page`].
    fn map_run(
        &mut self,
        source: &[AtomicU64],
        target: &[AtomicU64],
        to_state: &mut State,
        from_state: Option<&State>,
    ) -> Result<u64, Error> {
        let first = source.first().map_or(PageEntry::HOLE, load);
        let Some(run) = self.run_like(first) else { return Ok(0) };
        if !target.first().is_some_and(|word| load(word).is_hole()) {
            return Ok(0);
        }
        self.note_borrow(first, to_state, from_state)?;
        let mut count = 0;
        for (source, target) in source.iter().zip(target) {
            let old = load(source);
            if (old.0 ^ first.0) & run.same != 0 || !load(target).is_hole() {
                break;
            }
            store(target, PageEntry(run.alike | old.0 & run.kept));
            count += 1;
        }
        self.work.spend(count);
        Ok(count.into())
    }

    /// What a run that begins with a page has in common, if its pages need nothing done one by one.
    fn run_like(&self, first: PageEntry) -> Option<Run> {
        let Mapping { mode, access, may_execute, .. } = self.mapping;
        let history = match mode {
            MapMode::Snapshot => {
                // Promises, and frames that are borrowed already, are taken over as they are.
                let same = PRESENT | ZERO | BORROWED | SHARED | DEVICE | PINNED;
                let kind = first.0 & same;
                let is_run = kind == ZERO || kind & !SHARED == PRESENT | BORROWED;
                return is_run.then_some(Run { same, alike: 0, kept: u64::MAX });
            }
            MapMode::Share if self.from_is_frozen => BORROWED,
            MapMode::Private if self.from_is_frozen => BORROWED | COW | MAX_WRITE,
            MapMode::Share | MapMode::Private | MapMode::Move => return None,
        };
        let wanted = if access.contains(Access::EXECUTE) { MAX_EXECUTE } else { 0 };
        let kept = FRAME_MASK | if may_execute { MAX_EXECUTE } else { 0 };
        let alike = PageEntry::page(Frame::new(0), self.history(history), access).0;
        // Frames of the source and frames that it borrows itself are noted once each, so a run is of either.
        let same = PRESENT | DEVICE | BORROWED | wanted;
        let is_run = first.0 & (PRESENT | DEVICE | wanted) == PRESENT | wanted;
        is_run.then_some(Run { same, alike, kept })
    }

    /// Maps a whole demand-zero span by its word, where both sides are aligned to it.
    fn map_span(
        &mut self,
        to: u64,
        rest: u64,
        entry: PageEntry,
        word: &AtomicU64,
        whole: Option<u64>,
    ) -> Option<u64> {
        let span = whole.filter(|span| *span <= rest)?;
        let marker = self.marker(entry)?;
        let Reach::Span { entry: at, word: target, whole: target_whole, .. } = self.to.tree.reach(to) else {
            return None;
        };
        if !at.is_hole() || target_whole != Some(span) || self.check_access(entry).is_err() {
            return None;
        }
        self.to.tree.mark_span(target, marker);
        if self.mapping.mode == MapMode::Move {
            self.from.tree.mark_span(word, PageEntry::HOLE);
        }
        Some(span)
    }

    /// The destination's marker for a demand-zero source, unless the source must be populated first.
    fn marker(&self, entry: PageEntry) -> Option<PageEntry> {
        match self.mapping.mode {
            MapMode::Share => None,
            MapMode::Snapshot if entry.has(SHARED) => None,
            MapMode::Snapshot | MapMode::Move => Some(entry),
            MapMode::Private => {
                let may_execute = self.mapping.may_execute && entry.has(MAX_EXECUTE);
                let mut maximum = Access::READ | Access::WRITE;
                maximum.set(Access::EXECUTE, may_execute);
                let marker = PageEntry::zero(Access::READ, maximum, self.mapping.shared);
                Some(marker.with_access(self.mapping.access))
            }
        }
    }

    fn map_page(
        &mut self,
        page: u64,
        source: &AtomicU64,
        target: &AtomicU64,
        to_state: &mut State,
        from_state: Option<&State>,
    ) -> Result<(), Error> {
        let mut old = load(source);
        if old.is_hole() {
            let is_error = self.mapping.mode == MapMode::Share && self.crosses;
            return if is_error { Err(Error::Hole) } else { Ok(()) };
        }
        if old.is_busy() {
            return Err(Error::WouldBlock);
        }
        if !load(target).is_hole() {
            return Err(Error::Overlap);
        }
        self.check_access(old)?;
        if old.is_zero() {
            if let Some(marker) = self.marker(old) {
                store(target, marker);
                if self.mapping.mode == MapMode::Move {
                    store(source, PageEntry::HOLE);
                }
                return Ok(());
            }
            old = self.populate(source, old)?;
        }
        // What a frozen Space has is never written, so its copy-on-write pages are lent as they are.
        if self.mapping.mode == MapMode::Share && old.has(COW) && !self.from_is_frozen {
            old = self.own(page, source, old)?;
        }
        self.note_borrow(old, to_state, from_state)?;
        match self.mapping.mode {
            MapMode::Share => self.share(old, target),
            MapMode::Private => self.private(old, target),
            MapMode::Snapshot => self.snapshot(page, old, source, target),
            MapMode::Move => self.take(page, old, source, target),
        }
    }

    /// Whether the page may be mapped with the access asked for.
    fn check_access(&self, old: PageEntry) -> Result<(), Error> {
        let needed = match self.mapping.mode {
            MapMode::Share => self.mapping.access,
            MapMode::Private => self.mapping.access - Access::WRITE,
            MapMode::Snapshot | MapMode::Move => return Ok(()),
        };
        if old.maximum().contains(needed) { Ok(()) } else { Err(Error::MissingRight) }
    }

    /// Gives a demand-zero page of the source its frame.
    fn populate(&mut self, source: &AtomicU64, old: PageEntry) -> Result<PageEntry, Error> {
        if self.from_is_frozen {
            // Nothing can ever be written there: the zero page stands for all of it.
            return Ok(PageEntry::page(
                super::fault::zero_page()?,
                BORROWED | old.0 & MAX_EXECUTE,
                Access::READ,
            ));
        }
        self.work.spend(FRAME_COST);
        let new = old.on_frame(page::allocate_zeroed(self.from.domain())?);
        store(source, new);
        Ok(new)
    }

    /// Makes a copy-on-write page of the source its own before it is shared.
    fn own(&mut self, page: u64, source: &AtomicU64, old: PageEntry) -> Result<PageEntry, Error> {
        if old.is_counted() && page::is_sole(old.frame()) {
            let new = old.without_history(COW);
            store(source, new);
            return Ok(new);
        }
        self.work.spend(FRAME_COST);
        let frame = page::allocate(self.from.domain())?;
        machine::copy(frame, old.frame());
        let new = old.on_frame(frame);
        store(source, new);
        self.changes.narrowed(page);
        if old.is_counted() {
            self.changes.release(old.frame());
        }
        Ok(new)
    }

    /// Notes in the destination whose frame a borrowed page is.
    fn note_borrow(
        &self,
        old: PageEntry,
        to_state: &mut State,
        from_state: Option<&State>,
    ) -> Result<(), Error> {
        let domain = self.to.domain();
        if old.has(BORROWED) {
            return match from_state {
                Some(from) => to_state.borrows.import(&from.borrows, domain, self.entry),
                None => Ok(()),
            };
        }
        if !self.from_is_frozen {
            return Ok(());
        }
        let frozen = self.from.to_ref().ok_or(Error::NoCapability)?;
        to_state.borrows.add(&frozen, domain, self.entry)
    }

    fn history(&self, keep: u64) -> u64 {
        keep | if self.mapping.shared { SHARED } else { 0 }
    }

    fn share(&self, old: PageEntry, target: &AtomicU64) -> Result<(), Error> {
        let mut history = self.history(old.0 & (BORROWED | DEVICE));
        if self.from_is_frozen {
            history |= BORROWED;
        }
        if self.mapping.access.contains(Access::WRITE) {
            history |= MAX_WRITE;
        }
        if self.mapping.may_execute {
            history |= old.0 & MAX_EXECUTE;
        }
        if old.is_counted() && !self.from_is_frozen {
            page::add_reference(old.frame())?;
        }
        let uncached = if old.has(DEVICE) { machine::entry::UNCACHED } else { 0 };
        store(target, PageEntry::page(old.frame(), history | uncached, self.mapping.access));
        Ok(())
    }

    fn private(&mut self, old: PageEntry, target: &AtomicU64) -> Result<(), Error> {
        if old.has(DEVICE) {
            return Err(Error::FrameInUse);
        }
        let borrowed = if self.from_is_frozen { BORROWED } else { old.0 & BORROWED };
        let mut history = self.history(borrowed | COW | MAX_WRITE);
        if self.mapping.may_execute {
            history |= old.0 & MAX_EXECUTE;
        }
        if borrowed == 0 {
            page::add_reference(old.frame())?;
        }
        store(target, PageEntry::page(old.frame(), history, self.mapping.access));
        Ok(())
    }

    fn snapshot(
        &mut self,
        page: u64,
        old: PageEntry,
        source: &AtomicU64,
        target: &AtomicU64,
    ) -> Result<(), Error> {
        let is_shared =
            old.has(SHARED) || old.has(BORROWED) || old.has(DEVICE) || (!old.has(MAX_WRITE) && !old.has(COW));
        if !is_shared && page::is_pinned(old.frame()) {
            self.work.spend(FRAME_COST);
            let frame = page::allocate(self.to.domain())?;
            machine::copy(frame, old.frame());
            store(target, old.on_frame(frame));
            return Ok(());
        }
        if old.is_counted() {
            page::add_reference(old.frame())?;
        }
        let both = PageEntry(old.0 & !PINNED);
        if is_shared || old.has(COW) {
            store(target, both);
            return Ok(());
        }
        let cow = both.copied_on_write();
        store(source, cow);
        store(target, cow);
        if old.is_writable_now() {
            self.changes.narrowed(page);
        }
        Ok(())
    }

    fn take(
        &mut self,
        page: u64,
        old: PageEntry,
        source: &AtomicU64,
        target: &AtomicU64,
    ) -> Result<(), Error> {
        if old.has(PINNED) {
            return Err(Error::FrameInUse);
        }
        store(source, PageEntry::HOLE);
        store(target, old);
        if old.is_present() {
            self.changes.narrowed(page);
        }
        Ok(())
    }
}
