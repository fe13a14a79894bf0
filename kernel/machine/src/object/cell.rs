//! The cell of an object: its header, counted references and borrowed ones.

use super::{
    epoch::{self, Entry},
    queue::Link,
    slab,
};
use crate::Frame;
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::{
    marker::PhantomData,
    mem,
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel_abi::Kind;

/// A bounded amount of work: what one kernel entry may still spend on deferred work.
pub struct Work(u32);

impl Work {
    /// An amount in units of roughly ten instructions.
    #[must_use]
    pub const fn new(units: u32) -> Self {
        Self(units)
    }
    /// Spends some; whether any is left.
    pub const fn spend(&mut self, units: u32) -> bool {
        self.0 = self.0.saturating_sub(units);
        self.0 > 0
    }
    /// Whether nothing is left.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// A type that can be a kernel object.
pub trait Object: Send + Sync + Sized + 'static {
    /// Its kind.
    const KIND: Kind;
    /// Gives up what the object holds beyond its own cell, in slices. Called again until it returns true, when nobody can reach the
    /// object any more; then the value is dropped.
    fn reclaim(this: &Borrow<'_, Self>, work: &mut Work) -> bool;
}

/// What the storage does with a cell whose type it has forgotten.
struct Functions {
    reclaim: fn(NonNull<Header>, &Entry, &mut Work) -> bool,
    drop: unsafe fn(NonNull<Header>),
}

/// The part of a cell that all kinds share.
#[repr(C)]
pub(super) struct Header {
    count: AtomicU32,
    kind: Kind,
    dead: AtomicBool,
    functions: &'static Functions,
    /// Epoch in which the cell was retired; meaningful only then.
    pub(super) retired: AtomicU64,
    /// In the members list of the Domain the object is charged to.
    pub(super) member: Link,
    /// In the queue of objects with deferred work, or in a list of retired cells.
    pub(super) reap: Link,
}

/// A header and the value after it.
#[repr(C)]
pub(super) struct Cell<T> {
    pub(super) header: Header,
    pub(super) value: T,
}

/// The functions of one type.
struct FunctionsOf<T>(PhantomData<T>);

impl<T: Object> FunctionsOf<T> {
    const TABLE: Functions = Functions { reclaim: reclaim_cell::<T>, drop: drop_cell::<T> };
}

fn reclaim_cell<T: Object>(header: NonNull<Header>, _entry: &Entry, work: &mut Work) -> bool {
    let borrow = Borrow::<T> { cell: header.cast(), entry: PhantomData };
    T::reclaim(&borrow, work)
}

/// # Safety
/// The header must be that of a live `Cell<T>` which nobody else can reach.
unsafe fn drop_cell<T: Object>(header: NonNull<Header>) {
    // SAFETY: the caller promises an unreachable `Cell<T>`.
    unsafe { ptr::drop_in_place(header.cast::<Cell<T>>().as_ptr()) };
}

/// A counted reference to an object.
pub struct Ref<T: Object> {
    cell: NonNull<Cell<T>>,
}

// SAFETY: a `Ref` gives shared access to a `Sync` value, and the last one to go defers the drop of a `Send` value.
unsafe impl<T: Object> Send for Ref<T> {}
// SAFETY: as above; all header fields are atomics.
unsafe impl<T: Object> Sync for Ref<T> {}

impl<T: Object> Ref<T> {
    /// Stores a new object; frames for slabs come from `frame`. `None` when it has none; the value is dropped then.
    pub fn new(value: T, frame: impl FnOnce() -> Option<Frame>) -> Option<Self> {
        let place = slab::allocate(size_of::<Cell<T>>(), frame)?;
        let cell = place.cast::<Cell<T>>();
        let header = Header {
            count: AtomicU32::new(1),
            kind: T::KIND,
            dead: AtomicBool::new(false),
            functions: &FunctionsOf::<T>::TABLE,
            retired: AtomicU64::new(0),
            member: Link::new(),
            reap: Link::new(),
        };
        // SAFETY: the slab gave a place of at least this size and alignment that nobody else uses.
        unsafe { cell.write(Cell { header, value }) };
        Some(Self { cell })
    }

    /// Bytes that an object of this type takes in a slab.
    #[must_use]
    pub const fn size() -> usize {
        slab::class_size(size_of::<Cell<T>>())
    }

    /// The same reference without its type.
    #[must_use]
    pub fn into_any(self) -> AnyRef {
        AnyRef { header: self.into_raw().cast() }
    }

    /// A borrow for the length of this reference.
    #[must_use]
    pub fn borrow(&self) -> Borrow<'_, T> {
        Borrow { cell: self.cell, entry: PhantomData }
    }

    /// A borrow for the rest of a kernel entry: even if this reference goes, the cell stays until the entry ends.
    #[must_use]
    pub fn protect<'e>(&self, _entry: &'e Entry) -> Borrow<'e, T> {
        Borrow { cell: self.cell, entry: PhantomData }
    }

    /// Whether both refer to one object.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.cell == other.cell
    }

    /// Gives the reference up without giving back its count.
    pub(super) fn into_raw(self) -> NonNull<Cell<T>> {
        let cell = self.cell;
        mem::forget(self);
        cell
    }

    /// # Safety
    /// The pointer must come from [`Self::into_raw`], once.
    pub(super) unsafe fn from_raw(cell: NonNull<Cell<T>>) -> Self {
        Self { cell }
    }
}

impl<T: Object> Clone for Ref<T> {
    fn clone(&self) -> Self {
        self.borrow().header().add_reference();
        Self { cell: self.cell }
    }
}

impl<T: Object> Drop for Ref<T> {
    fn drop(&mut self) {
        drop_reference(self.cell.cast());
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the count held by this reference keeps the cell in place.
        unsafe { &self.cell.as_ref().value }
    }
}

impl Header {
    /// Adds a reference where one exists already.
    pub(super) fn add_reference(&self) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "reference count out of range");
    }

    /// Adds a reference unless the count is zero, or so large that user programs have made it so.
    fn try_add_reference(&self) -> bool {
        self.count
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |count| {
                (count != 0 && count < u32::MAX / 4).then(|| count + 1)
            })
            .is_ok()
    }
}

fn drop_reference(header: NonNull<Header>) {
    // SAFETY: the caller gives up a count it holds, so the cell is in place until the subtraction.
    let counter = unsafe { &header.as_ref().count };
    // ORDERING: AcqRel, so that everything done through any reference happens before the cell is reclaimed.
    if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
        epoch::retire(header);
    }
}

/// An object borrowed for the length of a kernel entry (or of a reference).
pub struct Borrow<'e, T: Object> {
    cell: NonNull<Cell<T>>,
    entry: PhantomData<&'e T>,
}

impl<T: Object> Clone for Borrow<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Object> Copy for Borrow<'_, T> {}

impl<T: Object> Deref for Borrow<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the borrow's lifetime is that of a read section or a reference, which keeps the cell in place.
        unsafe { &self.cell.as_ref().value }
    }
}

impl<'e, T: Object> Borrow<'e, T> {
    pub(super) fn header(&self) -> &'e Header {
        // SAFETY: as for `deref`.
        unsafe { self.cell.cast::<Header>().as_ref() }
    }
    pub(super) const fn cell(&self) -> NonNull<Cell<T>> {
        self.cell
    }
    /// The value for the whole borrow.
    #[must_use]
    pub fn value(self) -> &'e T {
        // SAFETY: as for `deref`.
        unsafe { &self.cell.as_ref().value }
    }
    /// A counted reference, unless the last one is gone. It is made only after it was counted: one that is dropped takes a count away.
    #[must_use]
    pub fn to_ref(self) -> Option<Ref<T>> {
        self.header().try_add_reference().then(|| Ref { cell: self.cell })
    }
    /// The same without its type.
    #[must_use]
    pub fn any(self) -> AnyBorrow<'e> {
        AnyBorrow { header: self.cell.cast(), entry: PhantomData }
    }
    /// Whether the object has been destroyed.
    #[inline]
    #[must_use]
    pub fn is_dead(self) -> bool {
        self.any().is_dead()
    }
    /// Marks the object destroyed; whether this was the first time.
    #[must_use]
    pub fn mark_dead(self) -> bool {
        self.any().mark_dead()
    }
    /// Whether both are one object.
    #[must_use]
    pub fn is(self, other: Borrow<'_, T>) -> bool {
        self.cell == other.cell
    }
    /// A number that names the object while it lives.
    #[must_use]
    pub fn identity(self) -> u64 {
        self.any().identity()
    }
}

/// A counted reference to an object of any kind.
pub struct AnyRef {
    pub(super) header: NonNull<Header>,
}

// SAFETY: objects are `Send` and `Sync`, see `Ref`.
unsafe impl Send for AnyRef {}
// SAFETY: as above.
unsafe impl Sync for AnyRef {}

impl Drop for AnyRef {
    fn drop(&mut self) {
        drop_reference(self.header);
    }
}

impl Clone for AnyRef {
    fn clone(&self) -> Self {
        self.borrow().header().add_reference();
        Self { header: self.header }
    }
}

impl AnyRef {
    /// A borrow for the length of this reference.
    #[must_use]
    pub fn borrow(&self) -> AnyBorrow<'_> {
        AnyBorrow { header: self.header, entry: PhantomData }
    }
    /// The typed reference.
    #[must_use]
    pub fn downcast<T: Object>(self) -> Option<Ref<T>> {
        (self.borrow().kind() == T::KIND).then(|| {
            let cell = self.header.cast();
            mem::forget(self);
            Ref { cell }
        })
    }
}

/// A borrowed object of any kind.
#[derive(Clone, Copy)]
pub struct AnyBorrow<'e> {
    pub(super) header: NonNull<Header>,
    pub(super) entry: PhantomData<&'e ()>,
}

impl<'e> AnyBorrow<'e> {
    pub(super) fn header(&self) -> &'e Header {
        // SAFETY: the borrow's lifetime is that of a read section or a reference, which keeps the cell in place.
        unsafe { self.header.as_ref() }
    }
    /// The object's kind.
    #[inline]
    #[must_use]
    pub fn kind(self) -> Kind {
        self.header().kind
    }
    /// Whether the object has been destroyed.
    #[inline]
    #[must_use]
    pub fn is_dead(self) -> bool {
        self.header().dead.load(Ordering::Acquire)
    }
    /// Marks the object destroyed; whether this was the first time.
    #[must_use]
    pub fn mark_dead(self) -> bool {
        !self.header().dead.swap(true, Ordering::SeqCst)
    }
    /// The typed borrow.
    #[inline]
    #[must_use]
    pub fn downcast<T: Object>(self) -> Option<Borrow<'e, T>> {
        (self.kind() == T::KIND).then_some(Borrow { cell: self.header.cast(), entry: PhantomData })
    }
    /// A counted reference, unless the last one is gone.
    #[must_use]
    pub fn to_ref(self) -> Option<AnyRef> {
        self.header().try_add_reference().then(|| AnyRef { header: self.header })
    }
    /// A number that names the object while it lives.
    #[must_use]
    pub fn identity(self) -> u64 {
        (self.header.as_ptr().addr() as u64) >> 6
    }
}

/// One slice of reclaiming a retired cell: whether it is gone. The frame is one that its slab no longer needs.
pub(super) fn reclaim(header: NonNull<Header>, entry: &Entry, work: &mut Work) -> (bool, Option<Frame>) {
    // SAFETY: the epoch lists own retired cells, and this one is still in place.
    let functions = unsafe { header.as_ref().functions };
    if !(functions.reclaim)(header, entry, work) {
        return (false, None);
    }
    // SAFETY: the grace period is over, so nobody reaches the cell, and `functions` are those of its type.
    unsafe { (functions.drop)(header) };
    (true, slab::free(header.cast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Object for Nothing {
        const KIND: Kind = Kind::Irq;
        fn reclaim(_this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
            true
        }
    }

    #[test]
    fn what_user_programs_count_ends_before_what_the_kernel_may_count() {
        let _machine = crate::Machine::start(64, 1);
        let object = Ref::new(Nothing, || Some(Frame::new(40))).unwrap();
        object.borrow().header().count.store(u32::MAX / 4, Ordering::Relaxed);
        assert!(object.borrow().to_ref().is_none(), "a reference beyond the limit");
        drop(object.clone());
        object.borrow().header().count.store(1, Ordering::Relaxed);
        assert!(object.borrow().to_ref().is_some());
    }
}
