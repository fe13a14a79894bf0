//! A Domain's capability table: a radix of slot tables, read without locks.
//!
//! The first 512 slots are one table that hangs off the Domain itself, since most Domains need no more; the others hang below four middle
//! tables. A table of the radix is added by compare-and-swap and stays until the Domain is reclaimed.

use super::{Amounts, Domain};
use kernel_abi::{Error, Kind, Rights, Slot, cap::SLOT_LIMIT};
use kernel_machine::atomic::{AtomicU64, Ordering};
use kernel_machine::{
    self as machine, FRAME_WORDS, Frame,
    object::{AnyBorrow, AnyRef, Borrow, Entry, Object, SlotTable, Work},
};

/// Slots in one table.
const LEAF: u64 = FRAME_WORDS as u64;
/// Slots that one search for the next occupied one looks at.
const NEXT_SLICE: u32 = 4096;
/// Cost of a table that is given back.
const FREE_COST: u32 = 32;
/// Middle tables.
const MIDDLES: usize = (SLOT_LIMIT as u64 / LEAF / LEAF) as usize;

/// What a lookup found.
#[derive(Clone, Copy)]
pub struct Capability<'e> {
    /// The object.
    pub object: AnyBorrow<'e>,
    /// The rights.
    pub rights: Rights,
}

impl<'e> Capability<'e> {
    /// The object as one of kind `T`, if the capability has certain rights.
    ///
    /// # Errors
    /// `WrongKind`, `MissingRight`.
    #[inline]
    pub fn get<T: Object>(self, rights: Rights) -> Result<Borrow<'e, T>, Error> {
        let object = self.object.downcast().ok_or(Error::WrongKind)?;
        if self.rights.contains(rights) { Ok(object) } else { Err(Error::MissingRight) }
    }
    /// The object's kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.object.kind()
    }
}

/// The radix. Frame number 0 means "no table".
pub(super) struct Table {
    first: AtomicU64,
    middles: [AtomicU64; MIDDLES],
    /// Where `clear` goes on.
    cleared: AtomicU64,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            first: AtomicU64::new(0),
            middles: [const { AtomicU64::new(0) }; MIDDLES],
            cleared: AtomicU64::new(0),
        }
    }

    /// The table that holds a slot, and the slot's place in it.
    #[inline]
    fn leaf(&self, slot: u64) -> Option<(SlotTable, usize)> {
        let index = (slot % LEAF) as usize;
        if slot < LEAF {
            let frame = frame(&self.first)?;
            return Some((SlotTable::new(frame), index));
        }
        let middle = frame(self.middles.get((slot / LEAF / LEAF) as usize)?)?;
        let leaf = frame(machine::table(middle).get((slot / LEAF % LEAF) as usize)?)?;
        Some((SlotTable::new(leaf), index))
    }

    pub(super) fn lookup<'e>(&self, slot: u64, entry: &'e Entry) -> Result<Capability<'e>, Error> {
        let (table, index) = self.leaf(slot).ok_or(Error::NoCapability)?;
        let (object, rights) = table.get(index, entry).ok_or(Error::NoCapability)?;
        if object.is_dead() {
            return Err(Error::NoCapability);
        }
        Ok(Capability { object, rights: Rights::from_bits_truncate(rights) })
    }

    /// Makes sure that the slot's table exists and the slot is empty.
    pub(super) fn prepare(&self, domain: &Borrow<'_, Domain>, slot: u64, entry: &Entry) -> Result<(), Error> {
        if slot == 0 || slot >= u64::from(SLOT_LIMIT) {
            return Err(Error::BadArgument);
        }
        if self.leaf(slot).is_none() {
            self.grow(domain, slot)?;
        }
        match self.leaf(slot) {
            Some((table, index)) if table.is_empty(index) || self.clear_dead(domain, slot, entry) => Ok(()),
            Some(_) => Err(Error::SlotOccupied),
            None => Err(Error::OutOfFrames),
        }
    }

    /// Empties a slot whose object has been destroyed; whether it did.
    fn clear_dead(&self, domain: &Borrow<'_, Domain>, slot: u64, entry: &Entry) -> bool {
        let held = self.leaf(slot).and_then(|(table, index)| table.get(index, entry));
        held.is_some_and(|(object, _)| object.is_dead()) && self.remove(domain, slot)
    }

    fn grow(&self, domain: &Borrow<'_, Domain>, slot: u64) -> Result<(), Error> {
        if slot < LEAF {
            return add_table(domain, &self.first);
        }
        let place = self.middles.get((slot / LEAF / LEAF) as usize).ok_or(Error::BadArgument)?;
        add_table(domain, place)?;
        let middle = frame(place).ok_or(Error::OutOfFrames)?;
        add_table(domain, &machine::table(middle)[(slot / LEAF % LEAF) as usize])
    }

    pub(super) fn install(
        &self,
        domain: &Borrow<'_, Domain>,
        slot: u64,
        object: AnyRef,
        rights: Rights,
        entry: &Entry,
    ) -> Result<(), Error> {
        self.prepare(domain, slot, entry)?;
        let (table, index) = self.leaf(slot).ok_or(Error::OutOfFrames)?;
        domain.charge(Amounts::slot())?;
        table.install(index, object, rights.bits()).map_err(|_| {
            domain.discharge(Amounts::slot());
            Error::SlotOccupied
        })
    }

    pub(super) fn remove(&self, domain: &Borrow<'_, Domain>, slot: u64) -> bool {
        let Some(object) = self.leaf(slot).and_then(|(table, index)| table.take(index)) else {
            return false;
        };
        domain.discharge(Amounts::slot());
        drop(object);
        true
    }

    /// The next occupied slot, or only where to go on after a slice; `None` after the last one.
    pub(super) fn next<'e>(&self, from: u64, entry: &'e Entry) -> Option<(Slot, Option<Capability<'e>>)> {
        let mut slot = from.max(1);
        let mut work = Work::new(NEXT_SLICE);
        while slot < u64::from(SLOT_LIMIT) {
            if !work.spend(1) {
                return Some((slot as Slot, None));
            }
            let Some((table, index)) = self.leaf(slot) else {
                slot = self.skip(slot);
                continue;
            };
            if let Some((object, rights)) = table.get(index, entry).filter(|(object, _)| !object.is_dead()) {
                let rights = Rights::from_bits_truncate(rights);
                return Some((slot as Slot, Some(Capability { object, rights })));
            }
            slot += 1;
        }
        None
    }

    /// The first slot after the missing table that would hold `slot`.
    fn skip(&self, slot: u64) -> u64 {
        let middle =
            self.middles.get((slot / LEAF / LEAF) as usize).map_or(0, |word| word.load(Ordering::Acquire));
        let span = if slot < LEAF || middle != 0 { LEAF } else { LEAF * LEAF };
        (slot / span + 1) * span
    }

    /// One slice of emptying every slot: whether all are empty.
    pub(super) fn clear(&self, domain: &Borrow<'_, Domain>, work: &mut Work) -> bool {
        let mut slot = self.cleared.load(Ordering::Relaxed);
        while slot < u64::from(SLOT_LIMIT) {
            if !work.spend(1) {
                break;
            }
            let Some((table, index)) = self.leaf(slot) else {
                slot = self.skip(slot);
                continue;
            };
            let empty = table.empty_from(index);
            work.spend(empty / 4);
            slot += u64::from(empty);
            if (index as u64 + u64::from(empty)) < LEAF {
                self.remove(domain, slot);
                slot += 1;
            }
        }
        self.cleared.store(slot, Ordering::Relaxed);
        slot >= u64::from(SLOT_LIMIT)
    }

    /// One slice of giving the radix's frames back: whether all are. Nobody can look anything up any more.
    pub(super) fn free(&self, domain: &Borrow<'_, Domain>, work: &mut Work) -> bool {
        let leaves = self.middles.iter().filter_map(frame).flat_map(|middle| machine::table(middle).iter());
        for place in leaves.chain(&self.middles).chain([&self.first]) {
            let Some(table) = frame(place) else { continue };
            if !work.spend(FREE_COST) {
                return false;
            }
            place.store(0, Ordering::Relaxed);
            domain.give_frame(table);
        }
        true
    }
}

fn frame(place: &AtomicU64) -> Option<Frame> {
    let number = place.load(Ordering::Acquire);
    (number != 0).then(|| Frame::new(number as u32))
}

/// Adds a table of the radix at a place that may be empty.
fn add_table(domain: &Borrow<'_, Domain>, place: &AtomicU64) -> Result<(), Error> {
    if place.load(Ordering::Acquire) == 0 {
        let new = domain.take_frame()?;
        machine::zero(new);
        let number = new.number().into();
        if place.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // Another CPU was first; its table serves as well.
            domain.give_frame(new);
        }
    }
    Ok(())
}
