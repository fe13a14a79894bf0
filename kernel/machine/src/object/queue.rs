//! Intrusive queues: objects wait in line without any allocation.
//!
//! A [`Queue`] owns one reference to each of its members. The links lie in the members; a link is touched only by the queue that owns it, which the
//! link's `owner` word names, and through `&mut` of that queue, so two queues can never work on one link at a time.

use super::cell::{AnyRef, Cell, Header, Object, Ref};
use crate::atomic::{AtomicPtr, AtomicU64, Ordering};
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};

/// Source of queue identities; 0 means "in no queue".
static IDENTITIES: AtomicU64 = AtomicU64::new(1);

/// An object's place in a queue.
pub struct Link {
    next: AtomicPtr<u8>,
    previous: AtomicPtr<u8>,
    owner: AtomicU64,
}

impl Link {
    /// A link that is in no queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicU64::new(0),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

/// An object with a link; `N` tells several links of one type apart.
pub trait Linked<const N: usize>: Object {
    /// The link.
    fn link(&self) -> &Link;
}

/// Where the links of a chain's nodes are.
///
/// # Safety
/// `link` must return the same link for a node as long as the node is in the chain, and keep no other link of the node in use.
pub(super) unsafe trait Nodes {
    /// What pointers in the chain point to.
    type Node;
    /// A node's link.
    ///
    /// # Safety
    /// The node must be in place.
    unsafe fn link<'a>(node: NonNull<Self::Node>) -> &'a Link;
}

/// A doubly linked chain of nodes that are in place as long as they are in it.
pub(super) struct Chain<L: Nodes> {
    head: *mut L::Node,
    tail: *mut L::Node,
    identity: u64,
    nodes: PhantomData<L>,
}

// SAFETY: the pointers are to cells of objects, which are `Send` and `Sync`.
unsafe impl<L: Nodes> Send for Chain<L> {}

impl<L: Nodes> Chain<L> {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), identity: 0, nodes: PhantomData }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    pub(super) const fn first(&self) -> Option<NonNull<L::Node>> {
        NonNull::new(self.head)
    }

    fn identity(&mut self) -> u64 {
        if self.identity == 0 {
            self.identity = IDENTITIES.fetch_add(1, Ordering::Relaxed);
        }
        self.identity
    }

    /// # Safety
    /// The node must be in place until it is removed.
    pub(super) unsafe fn push_back(&mut self, node: NonNull<L::Node>) -> bool {
        let identity = self.identity();
        // SAFETY: the caller promises that the node is in place.
        let link = unsafe { L::link(node) };
        // ORDERING: Acquire pairs with the Release in `remove`: the links of the last queue are settled.
        if link.owner.compare_exchange(0, identity, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        link.next.store(ptr::null_mut(), Ordering::Relaxed);
        link.previous.store(self.tail.cast(), Ordering::Relaxed);
        match NonNull::new(self.tail) {
            Some(tail) => {
                // SAFETY: members of the chain are in place.
                unsafe { L::link(tail) }.next.store(node.as_ptr().cast(), Ordering::Relaxed);
            }
            None => self.head = node.as_ptr(),
        }
        self.tail = node.as_ptr();
        true
    }

    /// Takes a node out; false if it is not in this chain.
    ///
    /// # Safety
    /// The node must be in place.
    pub(super) unsafe fn remove(&mut self, node: NonNull<L::Node>) -> bool {
        // SAFETY: the caller promises that the node is in place.
        let link = unsafe { L::link(node) };
        if self.identity == 0 || link.owner.load(Ordering::Acquire) != self.identity {
            return false;
        }
        let next = link.next.load(Ordering::Relaxed);
        let previous = link.previous.load(Ordering::Relaxed);
        match NonNull::new(previous) {
            // SAFETY: members of the chain are in place.
            Some(before) => unsafe { L::link(before.cast()) }.next.store(next, Ordering::Relaxed),
            None => self.head = next.cast(),
        }
        match NonNull::new(next) {
            Some(after) => {
                // SAFETY: members of the chain are in place.
                unsafe { L::link(after.cast()) }.previous.store(previous, Ordering::Relaxed);
            }
            None => self.tail = previous.cast(),
        }
        link.owner.store(0, Ordering::Release);
        true
    }

    pub(super) fn next(&self, node: NonNull<L::Node>) -> Option<NonNull<L::Node>> {
        // SAFETY: callers walk from `first`, so the node is a member and in place.
        NonNull::new(unsafe { L::link(node) }.next.load(Ordering::Relaxed).cast())
    }
}

/// Links inside the values of one type.
pub(super) struct ValueLinks<T, const N: usize>(PhantomData<T>);

// SAFETY: `Linked::link` is a field access of the value in every implementation.
unsafe impl<T: Linked<N>, const N: usize> Nodes for ValueLinks<T, N> {
    type Node = Cell<T>;
    unsafe fn link<'a>(node: NonNull<Cell<T>>) -> &'a Link {
        // SAFETY: the caller promises that the cell is in place.
        unsafe { &node.as_ref().value }.link()
    }
}

/// The `reap` links of headers.
pub(super) struct ReapLinks;

// SAFETY: a field of the header.
unsafe impl Nodes for ReapLinks {
    type Node = Header;
    unsafe fn link<'a>(node: NonNull<Header>) -> &'a Link {
        // SAFETY: the caller promises that the header is in place.
        unsafe { &node.as_ref().reap }
    }
}

/// The `member` links of headers.
pub(super) struct MemberLinks;

// SAFETY: a field of the header.
unsafe impl Nodes for MemberLinks {
    type Node = Header;
    unsafe fn link<'a>(node: NonNull<Header>) -> &'a Link {
        // SAFETY: the caller promises that the header is in place.
        unsafe { &node.as_ref().member }
    }
}

/// A queue of references to objects of one type, first in, first out.
pub struct Queue<T: Linked<N>, const N: usize> {
    chain: Chain<ValueLinks<T, N>>,
}

impl<T: Linked<N>, const N: usize> Queue<T, N> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { chain: Chain::new() }
    }
    /// Whether nobody is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
    /// Appends; gives the reference back if the object is in a queue already.
    pub fn push(&mut self, object: Ref<T>) -> Result<(), Ref<T>> {
        let cell = object.into_raw();
        // SAFETY: the queue keeps the count that `into_raw` left, so the cell stays in place.
        if unsafe { self.chain.push_back(cell) } {
            return Ok(());
        }
        // SAFETY: the pointer came from `into_raw` above.
        Err(unsafe { Ref::from_raw(cell) })
    }
    /// Takes the first.
    pub fn pop(&mut self) -> Option<Ref<T>> {
        self.chain.first().and_then(|cell| self.take(cell))
    }
    /// Takes a certain object, if it is in this queue.
    pub fn remove(&mut self, object: &Ref<T>) -> Option<Ref<T>> {
        self.take(object.borrow().cell())
    }
    /// Takes the first that matches, looking at no more than `limit`.
    pub fn take_first(&mut self, limit: usize, mut matches: impl FnMut(&T) -> bool) -> Option<Ref<T>> {
        let mut next = self.chain.first();
        for _ in 0..limit {
            let cell = next?;
            // SAFETY: members of the chain are in place.
            if matches(unsafe { &cell.as_ref().value }) {
                return self.take(cell);
            }
            next = self.chain.next(cell);
        }
        None
    }
    /// The first member.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        // SAFETY: members of the chain are in place, and the borrow of the queue keeps this one a member.
        self.chain.first().map(|cell| unsafe { &cell.as_ref().value })
    }
    fn take(&mut self, cell: NonNull<Cell<T>>) -> Option<Ref<T>> {
        // SAFETY: the cell is a member or referenced by the caller.
        let taken = unsafe { self.chain.remove(cell) };
        // SAFETY: the queue owned the count that `push` left.
        taken.then(|| unsafe { Ref::from_raw(cell) })
    }
}

impl<T: Linked<N>, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Linked<N>, const N: usize> Drop for Queue<T, N> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Objects of any kind with work that is done in slices.
pub struct ReapQueue {
    chain: Chain<ReapLinks>,
}

impl ReapQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { chain: Chain::new() }
    }
    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
    /// Appends an object, unless it is in the queue already.
    pub fn push(&mut self, object: AnyRef) {
        // SAFETY: the queue keeps the object's count (forgotten below), so the header stays in place.
        if unsafe { self.chain.push_back(object.header) } {
            core::mem::forget(object);
        }
    }
    /// Takes the first.
    pub fn pop(&mut self) -> Option<AnyRef> {
        let header = self.chain.first()?;
        // SAFETY: a member of the chain is in place.
        unsafe { self.chain.remove(header) }.then(|| AnyRef { header })
    }
}

impl Default for ReapQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// Cells without references that wait for the end of their grace period, in the order of their epochs.
pub(super) struct RetiredList {
    chain: Chain<ReapLinks>,
    front: Option<NonNull<Header>>,
}

// SAFETY: as for `Chain`.
unsafe impl Send for RetiredList {}

impl RetiredList {
    pub(super) const fn new() -> Self {
        Self { chain: Chain::new(), front: None }
    }
    pub(super) const fn is_empty(&self) -> bool {
        self.chain.is_empty() && self.front.is_none()
    }
    pub(super) fn push(&mut self, header: NonNull<Header>) {
        // SAFETY: a retired cell stays in place until it is collected from this list.
        let linked = unsafe { self.chain.push_back(header) };
        debug_assert!(linked, "a cell without references was in a queue");
    }
    /// Puts a cell back whose reclamation has not finished.
    pub(super) const fn push_front(&mut self, header: NonNull<Header>) {
        self.front = Some(header);
    }
    /// Takes the first cell if its epoch has passed.
    pub(super) fn pop_if(&mut self, has_passed: impl FnOnce(u64) -> bool) -> Option<NonNull<Header>> {
        if let Some(header) = self.front.take() {
            return Some(header);
        }
        let header = self.chain.first()?;
        // SAFETY: members of the chain are in place.
        let epoch = unsafe { header.as_ref() }.retired.load(Ordering::Relaxed);
        if !has_passed(epoch) {
            return None;
        }
        // SAFETY: as above.
        unsafe { self.chain.remove(header) }.then_some(header)
    }
}
