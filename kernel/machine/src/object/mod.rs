//! Storage of kernel objects: counted references, slabs, intrusive queues, slot words and deferred reclamation.
//!
//! Owns: the memory of every kernel object and the one argument why a pointer to an object stays valid. Must not know: what the objects mean; the
//! portable kernel defines their types and matches on their [`Kind`](kernel_abi::Kind).
//!
//! # The argument
//!
//! An object lives in a `cell`: a header (count, kind, dead flag, links) followed by the value. Three things keep a cell in place:
//! * a [`Ref`] is counted: the cell stays while one exists;
//! * a [`Borrow`] is bound to an [`Entry`], the read section of one kernel entry: a cell whose count has reached zero is retired, and its memory is
//!   used again only after every CPU has left the entry it was in at that time (see [`epoch`]);
//! * a [`Queue`] owns the references of its members, and a [`Members`] list loses a member before the member's cell is used again.
//!
//! Nothing else holds a pointer: slot words ([`SlotTable`]) are counted references in the form of one atomic word.

mod cell;
pub mod epoch;
mod lock;
mod members;
mod once;
mod queue;
mod slab;
mod slot;

pub use cell::{AnyBorrow, AnyRef, Borrow, Object, Ref, Work};
pub use epoch::Entry;
pub use lock::{Guard, Rank, SpinLock};
pub use members::Members;
pub use once::Once;
pub use queue::{Link, Linked, Queue, ReapQueue};
pub use slab::class_size;
pub use slot::{FrameOwner, SlotTable};

/// Forgets every slab, for a fake machine that starts again.
#[cfg(not(target_os = "none"))]
pub(crate) fn reset() {
    lock::reset();
    slab::reset();
    epoch::reset();
}
