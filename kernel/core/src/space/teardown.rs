//! Emptying a Space for good.
//!
//! Only groups of words that a table notes as owing something are looked at ([`super::tree::note`]), not the holes, demand-zero markers and borrowed
//! frames elsewhere; and what is left to do is in the notes themselves.

use super::{
    ENTRY_COST, Space, TABLE_COST,
    changes::Changes,
    entry::{PINNED, PageEntry},
    load, page, store,
};
use kernel_machine::{self as machine, Frame, atomic::Ordering, object::Work};

/// Words that one bit of a table's notes stands for.
pub(super) const GROUP: usize = 8;

impl Space {
    /// One slice: whether nothing is left.
    pub(super) fn tear_down(&self, work: &mut Work) -> bool {
        let mut is_empty = false;
        while !is_empty && !work.is_spent() {
            let mut changes = Changes::default();
            let state = self.space_lock.lock();
            is_empty =
                dismantle(self.tree.root(), self.tree.mirror(), self.tree.levels(), &mut changes, work);
            drop(state);
            changes.narrowed(0);
            changes.narrowed(u64::MAX);
            changes.finish(self);
            work.spend(TABLE_COST);
        }
        if is_empty {
            // What was borrowed may be freed from here on: no TLB knows it any more.
            self.space_lock.lock().borrows.clear(self.domain());
        }
        is_empty
    }
}

/// Takes out what is owed in a table and below it, as far as the slice allows: whether that is all.
fn dismantle(
    table: Frame,
    mirror: Option<Frame>,
    level: u32,
    changes: &mut Changes,
    work: &mut Work,
) -> bool {
    let notes = &machine::frame_words(table)[0];
    let words = machine::table(table);
    loop {
        let groups = notes.load(Ordering::Relaxed);
        if groups == 0 {
            debug_assert!(
                level > 1 || words.iter().all(|word| !load(word).is_counted()),
                "not all was noted"
            );
            return true;
        }
        let first = groups.trailing_zeros() as usize * GROUP;
        for (index, word) in words.iter().enumerate().skip(first).take(GROUP) {
            let entry = load(word);
            if level > 1 && entry.is_table() {
                if !dismantle(entry.frame(), None, level - 1, changes, work) {
                    return false;
                }
                changes.release_table(entry.frame());
            } else if level == 1 && entry.is_counted() {
                if entry.has(PINNED) {
                    page::unpin(entry.frame());
                }
                changes.release(entry.frame());
            } else if level == 1 && entry.is_busy() {
                // Who breaks copy-on-write there is about to be done.
                return false;
            } else {
                continue;
            }
            store(word, PageEntry::HOLE);
            if let Some(mirror) = mirror {
                store(&machine::table(mirror)[index], PageEntry::HOLE);
            }
            if !work.spend(ENTRY_COST + 1) || !changes.has_room() {
                return false;
            }
        }
        notes.store(groups & (groups - 1), Ordering::Relaxed);
        if !work.spend(1) {
            return false;
        }
    }
}
