//! inotify(7): who is told of what happens to files.
//!
//! A watch lies at a node, the instance that made it holds it. What happens to a node is told to its own watches, and to those of its directory with its name there: the
//! entries of a directory know it from when it is watched first. While nobody watches anything, telling costs one comparison.

use super::{Node, OpenFile};
use crate::{
    linux::{Errno, O_PATH, POLLIN, POLLRDNORM},
    machine::guest::Sink,
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU32, Ordering},
};

/// A file was read.
pub const ACCESS: u32 = 1;
/// A file was written.
pub const MODIFY: u32 = 2;
/// Metadata has changed.
pub const ATTRIBUTES: u32 = 4;
/// A file that was open for writing was closed.
const CLOSE_WRITE: u32 = 8;
/// Another file was closed.
const CLOSE_OTHER: u32 = 0x10;
/// A file was opened.
pub const OPEN: u32 = 0x20;
/// A name has gone elsewhere.
pub const MOVED_FROM: u32 = 0x40;
/// A name has come.
pub const MOVED_TO: u32 = 0x80;
/// A name was made.
pub const CREATE: u32 = 0x100;
/// A name was removed.
pub const DELETE: u32 = 0x200;
const DELETE_SELF: u32 = 0x400;
/// The node has got another name.
pub const MOVE_SELF: u32 = 0x800;
const OVERFLOW: u32 = 0x4000;
const IGNORED: u32 = 0x8000;
const ALL: u32 = 0xfff;
/// Flags of inotify_add_watch(2).
pub const ONLY_DIRECTORY: u32 = 0x0100_0000;
/// See `ONLY_DIRECTORY`.
pub const DO_NOT_FOLLOW: u32 = 0x0200_0000;
const MASK_CREATE: u32 = 0x1000_0000;
const MASK_ADD: u32 = 0x2000_0000;
const IS_DIRECTORY: u32 = 0x4000_0000;
const ONCE: u32 = 0x8000_0000;

/// Events of one instance that wait (fs.inotify.max_queued_events).
pub const MAX_EVENTS: usize = 16384;
/// Watches of the compartment (fs.inotify.max_user_watches).
pub const MAX_WATCHES: u32 = 65536;

/// Watches there are.
static WATCHES: AtomicU32 = AtomicU32::new(0);
/// Ties the two events of a rename together.
static COOKIE: AtomicU32 = AtomicU32::new(0);

/// One watch.
#[derive(Debug)]
struct Watch {
    number: i32,
    mask: Cell<u32>,
    node: Weak<Node>,
    owner: Weak<Inotify>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The watches that concern a node. When the node goes, its own are told and end.
#[derive(Debug, Default)]
pub struct Watches(RefCell<Option<Box<Concerned>>>);

#[derive(Debug, Default)]
struct Concerned {
    own: Vec<Weak<Watch>>,
    /// The watched directory it is in, and its name there.
    above: Option<(Weak<Node>, Box<[u8]>)>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        for watch in self.living() {
            watch.tell(DELETE_SELF, 0, &[]);
            watch.end();
        }
    }
}

impl Watches {
    /// Nobody watches.
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }
    fn living(&self) -> Vec<Rc<Watch>> {
        match &*self.0.borrow() {
            None => Vec::new(),
            Some(concerned) => concerned.own.iter().filter_map(Weak::upgrade).collect(),
        }
    }
    /// Whether a directory is watched, or was.
    fn is_watched(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|concerned| !concerned.own.is_empty())
    }
    fn above(&self) -> Option<(Rc<Node>, Box<[u8]>)> {
        let place = self.0.borrow();
        let (directory, name) = place.as_ref()?.above.as_ref()?;
        Some((directory.upgrade()?, name.clone()))
    }
    fn set_above(&self, above: Option<(Weak<Node>, Box<[u8]>)>) {
        let mut place = self.0.borrow_mut();
        if above.is_some() || place.is_some() {
            place.get_or_insert_default().above = above;
        }
    }
    fn tell(&self, mask: u32, cookie: u32, name: &[u8]) {
        for watch in self.living() {
            watch.tell(mask, cookie, name);
        }
    }
    fn add(&self, watch: &Rc<Watch>) {
        let mut place = self.0.borrow_mut();
        let own = &mut place.get_or_insert_default().own;
        own.retain(|known| known.strong_count() > 0);
        own.push(Rc::downgrade(watch));
    }
}

impl Watch {
    fn tell(self: &Rc<Self>, happened: u32, cookie: u32, name: &[u8]) {
        if self.mask.get() & happened & ALL == 0 {
            return;
        }
        let Some(owner) = self.owner.upgrade() else { return };
        owner.push(Event { number: self.number, mask: happened, cookie, name: name.into() });
        if self.mask.get() & ONCE != 0 {
            self.end();
        }
    }
    /// It is over; its instance is told so.
    fn end(&self) {
        if let Some(owner) = self.owner.upgrade() {
            let known = owner.watches.borrow_mut().remove(&self.number);
            if known.is_some() {
                owner.push(Event {
                    number: self.number,
                    mask: IGNORED,
                    cookie: 0,
                    name: Box::default(),
                });
            }
        }
        self.mask.set(0);
    }
}

/// Whether anybody watches anything.
#[inline]
#[must_use]
pub fn is_any() -> bool {
    WATCHES.load(Ordering::Relaxed) > 0
}

/// Something has happened to a node: those who watch its directory are told, and those who watch it.
#[inline]
pub fn tell(node: &Node, happened: u32) {
    if is_any() {
        if let Some((directory, name)) = node.watches.above() {
            tell_entry(&directory, &name, node, happened);
        }
        tell_own(node, happened);
    }
}

/// Something has happened to a node that concerns no directory.
pub fn tell_own(node: &Node, happened: u32) {
    if is_any() {
        node.watches.tell(happened | kind(node, happened), 0, &[]);
    }
}

/// A node has got a name in a directory.
#[inline]
pub fn enter(directory: &Rc<Node>, name: &[u8], node: &Node) {
    if is_any() && directory.watches.is_watched() {
        node.watches.set_above(Some((Rc::downgrade(directory), name.into())));
    }
}

/// A node has lost a name in a directory.
#[inline]
pub fn leave(node: &Node) {
    if is_any() {
        node.watches.set_above(None);
    }
}

/// Something has happened to a node under a name of a directory.
#[inline]
pub fn tell_entry(directory: &Node, name: &[u8], node: &Node, happened: u32) {
    if is_any() {
        directory.watches.tell(happened | kind(node, happened), 0, name);
    }
}

/// A node has moved from one name to another.
pub fn tell_move(from: (&Node, &[u8]), to: (&Node, &[u8]), node: &Node) {
    if !is_any() {
        return;
    }
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed) + 1;
    let kind = kind(node, MOVED_FROM);
    from.0.watches.tell(MOVED_FROM | kind, cookie, from.1);
    to.0.watches.tell(MOVED_TO | kind, cookie, to.1);
    node.watches.tell(MOVE_SELF, 0, &[]);
}

/// Something has happened to what is open.
#[inline]
pub fn tell_open(file: &OpenFile, happened: u32) {
    if let Some(node) = file.node.as_ref().filter(|_| is_any()) {
        tell(node, happened);
    }
}

/// A file is closed.
#[inline]
pub fn tell_close(file: &OpenFile) {
    // What is open for its path only was never opened.
    if file.flags() & O_PATH == 0 {
        tell_open(file, if file.writes() { CLOSE_WRITE } else { CLOSE_OTHER });
    }
}

/// The flag of directories, where it is told.
fn kind(node: &Node, happened: u32) -> u32 {
    let is_own_end = happened & (DELETE_SELF | MOVE_SELF) != 0;
    if node.is_directory() && !is_own_end { IS_DIRECTORY } else { 0 }
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    number: i32,
    mask: u32,
    cookie: u32,
    name: Box<[u8]>,
}

impl Event {
    /// Bytes of its name with what fills it up.
    fn padded(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(16) }
    }
    fn size(&self) -> usize {
        16 + self.padded()
    }
    fn put(&self, sink: &mut Sink<'_>) -> Result<(), Errno> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.mask.to_le_bytes());
        bytes.extend_from_slice(&self.cookie.to_le_bytes());
        bytes.extend_from_slice(&(self.padded() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.resize(self.size(), 0);
        sink.put(&bytes)
    }
}

/// An inotify instance.
#[derive(Debug, Default)]
pub struct Inotify {
    watches: RefCell<BTreeMap<i32, Rc<Watch>>>,
    last: Cell<i32>,
    events: RefCell<VecDeque<Event>>,
    /// Those who wait for events.
    pub queue: WaitQueue,
}

impl Inotify {
    fn push(&self, event: Event) {
        let mut events = self.events.borrow_mut();
        // Of the same event twice in a row, the second says nothing new.
        if events.back() == Some(&event) {
            return;
        }
        if events.len() >= MAX_EVENTS {
            let lost = Event { number: -1, mask: OVERFLOW, cookie: 0, name: Box::default() };
            if events.back() != Some(&lost) {
                events.push_back(lost);
            }
            return;
        }
        events.push_back(event);
        drop(events);
        self.queue.wake_for(POLLIN | POLLRDNORM);
    }

    /// Watches a node, or changes the mask of the watch there is; its number.
    ///
    /// # Errors
    /// `EINVAL`, `EEXIST`, `ENOSPC`.
    pub fn add(self: &Rc<Self>, node: &Rc<Node>, mask: u32) -> Result<i32, Errno> {
        if mask & ALL == 0 || mask & MASK_ADD != 0 && mask & MASK_CREATE != 0 {
            return Err(Errno::EINVAL);
        }
        let kept = mask & (ALL | ONCE);
        let known = node.watches.living().into_iter().find(|watch| {
            core::ptr::eq(watch.owner.as_ptr(), Rc::as_ptr(self)) && watch.mask.get() != 0
        });
        if let Some(watch) = known {
            if mask & MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            let before = if mask & MASK_ADD == 0 { 0 } else { watch.mask.get() };
            watch.mask.set(before | kept);
            return Ok(watch.number);
        }
        if WATCHES.load(Ordering::Relaxed) >= MAX_WATCHES {
            return Err(Errno::ENOSPC);
        }
        WATCHES.fetch_add(1, Ordering::Relaxed);
        let number = self.last.get() + 1;
        self.last.set(number);
        let watch = Rc::new(Watch {
            number,
            mask: Cell::new(kept),
            node: Rc::downgrade(node),
            owner: Rc::downgrade(self),
        });
        node.watches.add(&watch);
        if node.directory().is_some() {
            node.list(None, |name, child| {
                enter(node, name, child);
                true
            })?;
        }
        self.watches.borrow_mut().insert(number, watch);
        Ok(number)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn remove(&self, number: i32) -> Result<(), Errno> {
        let watch = self.watches.borrow().get(&number).cloned().ok_or(Errno::EINVAL)?;
        watch.end();
        Ok(())
    }

    /// Reads whole events.
    ///
    /// # Errors
    /// `EINVAL` when not even one fits, `EAGAIN`, waits; `EFAULT`.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        let mut events = self.events.borrow_mut();
        if events.is_empty() {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join_for(waiter, POLLIN);
            return Err(WAIT);
        }
        let mut count = 0;
        while let Some(event) = events.front() {
            if event.size() > sink.room() {
                break;
            }
            event.put(sink)?;
            count += event.size();
            events.pop_front();
        }
        if count == 0 { Err(Errno::EINVAL.into()) } else { Ok(count) }
    }

    /// Bytes that can be read.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.events.borrow().iter().map(Event::size).sum()
    }

    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        if self.events.borrow().is_empty() { 0 } else { POLLIN | POLLRDNORM }
    }

    /// Numbers and nodes of its watches, for /proc.
    pub fn each(&self, mut each: impl FnMut(i32, &Node, u32)) {
        for watch in self.watches.borrow().values() {
            if let Some(node) = watch.node.upgrade() {
                each(watch.number, &node, watch.mask.get());
            }
        }
    }
}
