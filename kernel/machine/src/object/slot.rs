//! Slot words: a counted reference and its rights in one atomic word, so that nothing can tear.

use super::{
    cell::{AnyBorrow, AnyRef, Header, Object, Ref},
    epoch::Entry,
};
use crate::atomic::{AtomicU64, Ordering};
use crate::{FRAME_WORDS, Frame, frame_words, table, types::count_until};
use core::{
    marker::PhantomData,
    mem,
    ptr::{self, NonNull},
};

/// Bits of a word that hold the pointer; the rights are above.
const POINTER_BITS: u32 = 48;

/// A frame of [`FRAME_WORDS`] slots. The frame must be zeroed when it becomes one and is used for nothing else meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotTable(Frame);

fn pack(header: NonNull<Header>, rights: u16) -> u64 {
    let address = header.as_ptr().expose_provenance() as u64;
    address << (u64::BITS - POINTER_BITS) >> (u64::BITS - POINTER_BITS) | u64::from(rights) << POINTER_BITS
}

fn unpack(word: u64) -> Option<(NonNull<Header>, u16)> {
    let shift = u64::BITS - POINTER_BITS;
    let address = ((word << shift).cast_signed() >> shift).cast_unsigned();
    let header = NonNull::new(ptr::with_exposed_provenance_mut(address as usize))?;
    Some((header, (word >> POINTER_BITS) as u16))
}

impl SlotTable {
    /// Makes a zeroed frame a table of empty slots.
    #[must_use]
    pub const fn new(frame: Frame) -> Self {
        Self(frame)
    }
    /// The frame.
    #[must_use]
    pub const fn frame(self) -> Frame {
        self.0
    }
    fn word(self, index: usize) -> &'static AtomicU64 {
        &table(self.0)[index % FRAME_WORDS]
    }
    /// What a slot holds.
    #[inline]
    #[must_use]
    pub fn get(self, index: usize, _entry: &Entry) -> Option<(AnyBorrow<'_>, u16)> {
        // ORDERING: Acquire pairs with the swap of `install`: the object's fields are visible.
        let (header, rights) = unpack(self.word(index).load(Ordering::Acquire))?;
        Some((AnyBorrow { header, entry: PhantomData }, rights))
    }
    /// Whether a slot is empty.
    #[must_use]
    pub fn is_empty(self, index: usize) -> bool {
        self.word(index).load(Ordering::Acquire) == 0
    }
    /// How many slots from one on are empty.
    #[must_use]
    pub fn empty_from(self, index: usize) -> u32 {
        count_until(table(self.0).get(index..).unwrap_or_default(), |word| word)
    }
    /// Fills an empty slot; gives the reference back if it is occupied.
    pub fn install(self, index: usize, object: AnyRef, rights: u16) -> Result<(), AnyRef> {
        let word = pack(object.header, rights);
        if self.word(index).compare_exchange(0, word, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return Err(object);
        }
        mem::forget(object);
        Ok(())
    }
    /// Empties a slot.
    pub fn take(self, index: usize) -> Option<AnyRef> {
        let (header, _) = unpack(self.word(index).swap(0, Ordering::AcqRel))?;
        Some(AnyRef { header })
    }
}

/// The object a frame of user memory is charged to, as a counted reference in the frame's second metadata word.
pub struct FrameOwner;

impl FrameOwner {
    /// Notes the owner of a frame that has none.
    pub fn set<T: Object>(frame: Frame, owner: Ref<T>) {
        let word = pack(owner.into_raw().cast(), 0);
        let before = frame_words(frame)[1].swap(word, Ordering::AcqRel);
        debug_assert!(before == 0, "the frame has an owner");
    }
    /// Takes the owner away.
    #[must_use]
    pub fn take<T: Object>(frame: Frame) -> Option<Ref<T>> {
        let (header, _) = unpack(frame_words(frame)[1].swap(0, Ordering::AcqRel))?;
        AnyRef { header }.downcast()
    }
}
