//! The objects charged to one Domain: a list without counts, so that membership keeps nothing alive.
//!
//! A member leaves the list at the latest when it is reclaimed, before its cell is used again; so every node of the list is in place.

use super::{
    cell::{AnyBorrow, AnyRef, Borrow, Object},
    queue::{Chain, MemberLinks},
};
use core::marker::PhantomData;

/// The list.
pub struct Members {
    chain: Chain<MemberLinks>,
}

impl Members {
    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
    /// Adds an object. Its type's `reclaim` must remove it again.
    pub fn push<T: Object>(&mut self, object: Borrow<'_, T>) {
        // SAFETY: the object removes itself in `reclaim`, before its cell is used again.
        let _ = unsafe { self.chain.push_back(object.any().header) };
    }
    /// Removes an object, if it is in this list.
    pub fn remove(&mut self, object: AnyBorrow<'_>) {
        // SAFETY: a borrowed object is in place.
        let _ = unsafe { self.chain.remove(object.header) };
    }
    /// Takes the first member off the list: a reference, or nothing if it is being reclaimed, which may be over once it is off the list.
    pub fn pop(&mut self) -> Option<Option<AnyRef>> {
        let header = self.chain.first()?;
        // SAFETY: a member is in place.
        let _ = unsafe { self.chain.remove(header) };
        Some(AnyBorrow { header, entry: PhantomData }.to_ref())
    }
}

impl Default for Members {
    fn default() -> Self {
        Self { chain: Chain::new() }
    }
}
