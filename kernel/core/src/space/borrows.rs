//! The frozen Spaces whose frames a Space uses without counting them.
//!
//! One counted reference per frozen Space stands for all of its frames. A frozen Space that is destroyed keeps its memory until the last borrower has gone.

use super::Space;
use crate::{domain::Domain, reaper};
use kernel_abi::Error;
use kernel_machine::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel_machine::object::{Entry, Ref, SlotTable};

/// Borrowed Spaces that are noted without a table.
const INLINE: usize = 8;
/// Most in the table: a set is searched from end to end, and taken over one by one.
const MOST_MORE: usize = 160;

/// Source of the numbers of sets.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The set.
#[derive(Default)]
pub(super) struct Borrows {
    inline: [Option<Ref<Space>>; INLINE],
    more: Option<SlotTable>,
    count: usize,
    /// Tells the set from every other one there ever was, once it is not empty.
    number: u64,
    /// The set that was taken over last, and how many were in it then.
    imported: (u64, usize),
}

/// How many Spaces borrow from a frozen one.
#[derive(Debug, Default)]
pub(super) struct Borrowers(AtomicU32);

impl Borrowers {
    /// Whether nobody does.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Borrows {
    fn contains(&self, space: &Ref<Space>, entry: &Entry) -> bool {
        let id = space.borrow().identity();
        self.inline.iter().flatten().any(|held| held.is(space))
            || self.more.is_some_and(|table| {
                (0..self.count.saturating_sub(INLINE))
                    .any(|index| table.get(index, entry).is_some_and(|(held, _)| held.identity() == id))
            })
    }

    /// Adds a frozen Space, unless it is noted already.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub(super) fn add(
        &mut self,
        space: &Ref<Space>,
        domain: &Ref<Domain>,
        entry: &Entry,
    ) -> Result<(), Error> {
        if self.contains(space, entry) {
            return Ok(());
        }
        if let Some(place) = self.inline.get_mut(self.count) {
            *place = Some(space.clone());
        } else {
            let table = match self.more {
                Some(table) => table,
                None => SlotTable::new(super::tree::allocate_table(domain)?),
            };
            self.more = Some(table);
            let index = self.count - INLINE;
            if index >= MOST_MORE {
                return Err(Error::OutOfFrames);
            }
            table.install(index, space.clone().into_any(), 0).map_err(|_| Error::OutOfFrames)?;
        }
        if self.count == 0 {
            self.number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        }
        self.count += 1;
        space.borrowers.0.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Takes over everything another Space borrows.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub(super) fn import(&mut self, from: &Self, domain: &Ref<Domain>, entry: &Entry) -> Result<(), Error> {
        if self.imported == (from.number, from.count) {
            return Ok(());
        }
        for space in from.inline.iter().flatten() {
            self.add(space, domain, entry)?;
        }
        if let Some(table) = from.more {
            for index in 0..from.count.saturating_sub(INLINE) {
                let held = table
                    .get(index, entry)
                    .and_then(|(object, _)| object.downcast::<Space>())
                    .and_then(|space| space.to_ref());
                if let Some(space) = held {
                    self.add(&space, domain, entry)?;
                }
            }
        }
        self.imported = (from.number, from.count);
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self, domain: &Ref<Domain>) {
        for place in &mut self.inline {
            give_back(place.take());
        }
        if let Some(table) = self.more.take() {
            for index in 0..self.count.saturating_sub(INLINE) {
                give_back(table.take(index).and_then(|object| object.downcast()));
            }
            domain.give_frame(table.frame());
        }
        self.count = 0;
    }
}

fn give_back(space: Option<Ref<Space>>) {
    let Some(space) = space else { return };
    if space.borrowers.0.fetch_sub(1, Ordering::AcqRel) == 1 && space.borrow().is_dead() {
        reaper::add(space.into_any());
    }
}
