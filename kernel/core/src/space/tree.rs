//! The page-table tree of a Space: finding, adding and splitting tables.
//!
//! Every use of a tree happens under its Space's lock. Tables are charged to the Space's Domain. A word above the leaves is empty, a
//! demand-zero marker for its whole span, or a table.

use super::{
    entry::{PageEntry, TABLE},
    teardown::GROUP,
};
use crate::domain::Domain;
use core::slice;
use kernel_abi::{Error, PAGE_SHIFT, PAGE_SIZE};
use kernel_machine::{
    self as machine, FRAME_WORDS, Frame, Table,
    atomic::{AtomicU64, Ordering},
    count_until,
    object::Work,
};

/// Bits of an address that one level decides.
const LEVEL_BITS: u32 = 9;
/// Empty words that are passed over for one unit of work.
pub(super) const WORDS_PER_UNIT: u32 = 8;
/// Pages that one leaf table covers.
pub(super) const LEAF_PAGES: u64 = FRAME_WORDS as u64;

/// The tree.
pub(super) struct Tree {
    /// Topmost table.
    root: Frame,
    /// A second root that must have the same lower half: the run root of a guest Space.
    mirror: Option<Frame>,
    /// Number of levels of tables.
    levels: u32,
}

/// What is at an offset.
pub(super) enum Reach {
    /// The leaf table that holds the offset's entry.
    Leaf(&'static Table),
    /// No table: the same state up to the end of a word's span.
    Span {
        /// A hole or a demand-zero marker.
        entry: PageEntry,
        /// Pages from the offset to the end of the span.
        pages: u64,
        /// The word.
        word: &'static AtomicU64,
        /// Whether the offset is the first of the span, and how many pages the span has.
        whole: Option<u64>,
    },
}

/// Pages that one word of a level covers (level 1 is the leaves).
const fn span_pages(level: u32) -> u64 {
    1 << ((level - 1) * LEVEL_BITS)
}

/// Index of a page in its leaf table.
pub(super) const fn leaf_index(page: u64) -> usize {
    (page % LEAF_PAGES) as usize
}

/// How many words at the beginning are holes.
pub(super) fn count_holes(words: &[AtomicU64]) -> u32 {
    const { assert!(PageEntry::HOLE.0 == 0) };
    count_until(words, |word| word)
}

/// Notes that words of a table may hold from now on what must be given back with the table: frames that are counted, or tables.
/// Every table's first word of metadata has a bit for each eight of its words.
pub(super) fn note(words: &[AtomicU64]) {
    let Some(more) = words.len().checked_sub(1) else { return };
    let first = words.as_ptr().addr() / size_of::<u64>() % FRAME_WORDS;
    let (from, to) = (first / GROUP, (first + more) / GROUP);
    let notes = &machine::frame_words(machine::frame_of(words.as_ptr().cast()))[0];
    let groups = u64::MAX << from & u64::MAX >> (63 - to.min(63));
    notes.store(notes.load(Ordering::Relaxed) | groups, Ordering::Relaxed);
}

fn word(table: Frame, page: u64, level: u32) -> &'static AtomicU64 {
    let index = (page >> ((level - 1) * LEVEL_BITS)) as usize % FRAME_WORDS;
    &machine::table(table)[index]
}

impl Tree {
    /// A tree with an empty root.
    pub(super) const fn new(root: Frame, mirror: Option<Frame>, levels: u32) -> Self {
        Self { root, mirror, levels }
    }

    /// The topmost table.
    pub(super) const fn root(&self) -> Frame {
        self.root
    }

    /// The second root.
    pub(super) const fn mirror(&self) -> Option<Frame> {
        self.mirror
    }

    /// Finds what is at a page.
    pub(super) fn reach(&self, page: u64) -> Reach {
        let mut table = self.root;
        let mut level = self.levels;
        loop {
            if level == 1 {
                return Reach::Leaf(machine::table(table));
            }
            let word = word(table, page, level);
            let value = word.load(Ordering::Relaxed);
            if !PageEntry(value).is_table() {
                let span = span_pages(level);
                let into = page % span;
                return Reach::Span {
                    entry: PageEntry(value),
                    pages: span - into,
                    word,
                    whole: (into == 0).then_some(span),
                };
            }
            table = PageEntry(value).frame();
            level -= 1;
        }
    }

    /// Pages from a hole above the leaves to the next word of the same table that is not empty: what a walk over a range can pass over.
    pub(super) fn hole_run(&self, page: u64, work: &mut Work) -> u64 {
        let mut table = self.root;
        for level in (2..=self.levels).rev() {
            let value = word(table, page, level).load(Ordering::Relaxed);
            if PageEntry(value).is_table() {
                table = PageEntry(value).frame();
                continue;
            }
            let span = span_pages(level);
            let words = &machine::table(table)[(page / span) as usize % FRAME_WORDS..];
            let empty = count_holes(words);
            work.spend(empty / WORDS_PER_UNIT);
            return (u64::from(empty) * span).saturating_sub(page % span).max(1);
        }
        1
    }

    /// Finds the leaf table of a page, adding tables and splitting markers on the way.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub(super) fn reach_leaf(&self, page: u64, domain: &Domain) -> Result<&'static Table, Error> {
        let mut table = self.root;
        for level in (2..=self.levels).rev() {
            let word = word(table, page, level);
            let value = word.load(Ordering::Relaxed);
            table = if PageEntry(value).is_table() {
                PageEntry(value).frame()
            } else {
                let new = allocate_table(domain)?;
                if value != 0 {
                    for entry in machine::table(new) {
                        entry.store(value, Ordering::Relaxed);
                    }
                }
                self.set_upper(word, level, page, new.address() | TABLE);
                new
            };
        }
        Ok(machine::table(table))
    }

    /// Writes a word above the leaves, in the mirror too where it is the root's.
    fn set_upper(&self, word_at: &AtomicU64, level: u32, page: u64, value: u64) {
        note(slice::from_ref(word_at));
        // ORDERING: Release, so that a hardware walk that sees the table sees its contents.
        word_at.store(value, Ordering::Release);
        if level == self.levels
            && let Some(mirror) = self.mirror
        {
            word(mirror, page, level).store(value, Ordering::Release);
        }
    }

    /// Places a demand-zero marker over a whole span, whose word `reach` has found to be empty.
    pub(super) fn mark_span(&self, at: &AtomicU64, marker: PageEntry) {
        at.store(marker.0, Ordering::Relaxed);
    }

    /// Takes the table below a word of `level` out of the tree.
    pub(super) fn remove_table(&self, page: u64, level: u32) -> Option<Frame> {
        let mut table = self.root;
        for at in (level..=self.levels).rev() {
            let word = word(table, page, at);
            let value = word.load(Ordering::Relaxed);
            if !PageEntry(value).is_table() {
                return None;
            }
            if at == level {
                self.set_upper(word, level, page, 0);
            }
            table = PageEntry(value).frame();
        }
        Some(table)
    }

    /// Number of levels.
    pub(super) const fn levels(&self) -> u32 {
        self.levels
    }
}

/// Gives a Space a zeroed frame for a table.
///
/// # Errors
/// `OutOfFrames`.
pub(super) fn allocate_table(domain: &Domain) -> Result<Frame, Error> {
    let frame = domain.take_frame()?;
    machine::zero(frame);
    machine::frame_words(frame)[0].store(0, Ordering::Relaxed);
    Ok(frame)
}

/// Whether an offset and a number of pages lie below a limit, in whole pages; the first page and the number.
///
/// # Errors
/// `BadArgument`.
pub fn check_range(offset: u64, pages: u64, limit: u64) -> Result<(u64, u64), Error> {
    let first = offset >> PAGE_SHIFT;
    let last = first.checked_add(pages).ok_or(Error::BadArgument)?;
    if !offset.is_multiple_of(PAGE_SIZE) || pages == 0 || last > limit >> PAGE_SHIFT {
        Err(Error::BadArgument)
    } else {
        Ok((first, pages))
    }
}
