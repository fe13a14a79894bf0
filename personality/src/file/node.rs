//! Nodes: what Linux calls inodes.
//!
//! A node is identified by its object; names are entries of directories. Directories know their parent and their name in it, so that the path of a
//! working directory can be told.

mod attributes;

use super::{
    capacity::Capacity, data::FileData, lower::Lower, pipe::Pipe, proc::ProcNode, stream::Stream,
    watch,
};
use crate::{
    linux::{
        Errno, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, S_ISGID,
    },
    system::time,
};
use alloc::{
    boxed::Box,
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, OnceCell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};

/// A moment: seconds and nanoseconds since 1970.
pub type Moment = (i64, u32);

/// Number of the file system that pipes without a name are in.
pub const PIPES: u64 = 0xc;

static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 48);

/// What stat(2) tells beside the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permissions and type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Device number.
    pub rdev: u64,
    /// Last access.
    pub accessed: Moment,
    /// Last change of contents.
    pub modified: Moment,
    /// Last change of anything.
    pub changed: Moment,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(FileData),
    /// A symbolic link.
    Symlink(Box<[u8]>),
    /// A FIFO, or a pipe without a name ([`PIPES`]).
    Fifo(Rc<Pipe>),
    /// Standard input, output or error that the daemon holds the other end of: a pipe to programs.
    Stream {
        /// The stream.
        stream: Rc<Stream>,
        /// Whether programs read it.
        is_input: bool,
    },
    /// A character or block device, by `rdev`.
    Device,
    /// A bound unix socket.
    Socket(RefCell<Weak<crate::net::Socket>>),
    /// Something of /proc or /sys.
    Proc(ProcNode),
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Inode number.
    pub id: u64,
    /// File system number.
    pub device: u64,
    /// What it is.
    pub kind: Kind,
    meta: Cell<Meta>,
    xattrs: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Locks held on it.
    pub locks: super::locks::Locks,
    /// Who watches it.
    pub watches: watch::Watches,
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A node.
    Node(Rc<Node>),
    /// Nothing, whatever the layers have.
    Whiteout,
}

/// A directory's entries.
#[derive(Debug)]
pub struct Directory {
    entries: RefCell<BTreeMap<Box<[u8]>, Entry>>,
    lower: RefCell<Option<Lower>>,
    parent: RefCell<Weak<Node>>,
    name: RefCell<Vec<u8>>,
    mounted: RefCell<Option<Rc<Node>>>,
    /// The directory it is mounted on.
    covers: RefCell<Option<Rc<Node>>>,
    read_only: Cell<bool>,
    is_removed: Cell<bool>,
    /// The limit of the file system it is in, if that has one: what is linked below has it too.
    capacity: OnceCell<Rc<Capacity>>,
}

impl Directory {
    /// A directory over something that shows through, or an empty one.
    #[must_use]
    pub fn new(lower: Option<Lower>) -> Self {
        Self {
            entries: RefCell::new(BTreeMap::new()),
            lower: RefCell::new(lower),
            parent: RefCell::new(Weak::new()),
            name: RefCell::new(Vec::new()),
            mounted: RefCell::new(None),
            covers: RefCell::new(None),
            read_only: Cell::new(false),
            is_removed: Cell::new(false),
            capacity: OnceCell::new(),
        }
    }
    /// Brings entries that come and go by themselves up to date.
    fn refresh(&self) {
        if let Some(lower) = &*self.lower.borrow() {
            lower.refresh(&mut self.entries.borrow_mut());
        }
    }
    /// What is mounted on it.
    #[must_use]
    pub fn mounted(&self) -> Option<Rc<Node>> {
        self.mounted.borrow().clone()
    }
    /// The directory above, across a mount; `None` for the root and removed directories.
    #[must_use]
    pub fn parent(&self) -> Option<Rc<Node>> {
        match &*self.covers.borrow() {
            Some(covered) => covered.directory()?.parent(),
            None => self.parent.borrow().upgrade(),
        }
    }
    /// Its name in its parent.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match &*self.covers.borrow() {
            Some(covered) => covered.directory().map_or_else(Vec::new, Self::name),
            None => self.name.borrow().clone(),
        }
    }
    /// Whether it was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_removed.get()
    }
    /// Marks it removed.
    pub fn set_removed(&self) {
        self.is_removed.set(true);
    }
    /// Makes the whole file system below it read-only.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.set(read_only);
    }
    /// The flag of a mounted file system's root.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.get()
    }
    /// Puts a directory below a parent under a name.
    pub fn set_place(&self, parent: &Rc<Node>, name: &[u8]) {
        *self.parent.borrow_mut() = Rc::downgrade(parent);
        *self.name.borrow_mut() = name.to_vec();
    }
}

impl Node {
    /// A new node with times of now.
    #[must_use]
    pub fn new(kind: Kind, mode: u32, uid: u32, gid: u32, rdev: u64, device: u64) -> Rc<Self> {
        let now = time::realtime();
        let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        let meta = Meta { mode, uid, gid, nlink, rdev, accessed: now, modified: now, changed: now };
        Self::with_meta(kind, meta, NEXT_ID.fetch_add(1, Ordering::Relaxed), device)
    }

    /// A node with everything given.
    #[must_use]
    pub fn with_meta(kind: Kind, meta: Meta, id: u64, device: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            device,
            kind,
            meta: Cell::new(meta),
            xattrs: RefCell::new(Vec::new()),
            locks: super::locks::Locks::new(),
            watches: watch::Watches::new(),
        })
    }

    /// An empty directory.
    #[must_use]
    pub fn empty_directory(mode: u32, uid: u32, gid: u32, device: u64) -> Rc<Self> {
        Self::new(Kind::Directory(Directory::new(None)), S_IFDIR | mode, uid, gid, 0, device)
    }

    /// A pipe without a name.
    #[must_use]
    pub fn unnamed_pipe(kind: Kind, uid: u32, gid: u32) -> Rc<Self> {
        Self::new(kind, S_IFIFO | 0o600, uid, gid, 0, PIPES)
    }

    /// Its metadata.
    #[inline]
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta.get()
    }
    /// Changes metadata and the time of change.
    pub fn change(&self, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta.get();
        change(&mut meta);
        meta.changed = time::realtime();
        self.meta.set(meta);
    }
    /// Notes a change of contents.
    pub fn touch_modified(&self) {
        let mut meta = self.meta.get();
        meta.modified = time::realtime();
        meta.changed = meta.modified;
        self.meta.set(meta);
    }
    /// Notes an access.
    pub fn touch_accessed(&self) {
        let mut meta = self.meta.get();
        if meta.accessed <= meta.modified {
            meta.accessed = time::realtime();
            self.meta.set(meta);
        }
    }
    /// The type bits of its mode.
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.meta.get().mode & S_IFMT
    }
    /// Its directory part.
    #[must_use]
    pub fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }
    /// Whether names can be looked up in it.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.file_type() == S_IFDIR
    }
    /// Bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(data) => data.size(),
            Kind::Symlink(target) => target.len() as u64,
            Kind::Directory(_) => 4096,
            _ => 0,
        }
    }

    /// The type as getdents64(2) tells it.
    #[must_use]
    pub fn entry_type(&self) -> u8 {
        (self.file_type() >> 12) as u8
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, errors of the image.
    pub fn lookup(self: &Rc<Self>, name: &[u8]) -> Result<Rc<Self>, Errno> {
        let directory = match &self.kind {
            Kind::Directory(directory) => directory,
            Kind::Proc(proc) => return proc.lookup(self, name),
            _ => return Err(Errno::ENOTDIR),
        };
        directory.refresh();
        match directory.entries.borrow().get(name) {
            Some(Entry::Node(node)) => return Ok(node.clone()),
            Some(Entry::Whiteout) => return Err(Errno::ENOENT),
            None => {}
        }
        let found = match &*directory.lower.borrow() {
            Some(lower) => lower.find(name)?,
            None => None,
        };
        let node = found.ok_or(Errno::ENOENT)?;
        self.adopt(directory, name, node.clone());
        Ok(node)
    }

    /// The limit of the file system it is in, if that has one and it is a file or a directory.
    #[must_use]
    pub fn capacity(&self) -> Option<&Rc<Capacity>> {
        match &self.kind {
            Kind::File(data) => data.capacity(),
            Kind::Directory(directory) => directory.capacity.get(),
            _ => None,
        }
    }
    /// Makes it part of a file system with a limit; it stays with the first.
    pub fn belong(&self, capacity: &Rc<Capacity>) {
        match &self.kind {
            Kind::File(data) => data.belong(capacity),
            Kind::Directory(directory) => {
                let _ = directory.capacity.set(capacity.clone());
            }
            _ => {}
        }
    }

    fn adopt(self: &Rc<Self>, directory: &Directory, name: &[u8], node: Rc<Self>) {
        if let Some(below) = node.directory() {
            below.set_place(self, name);
        }
        if let Some(capacity) = directory.capacity.get() {
            node.belong(capacity);
        }
        watch::enter(self, name, &node);
        directory.entries.borrow_mut().insert(name.into(), Entry::Node(node));
    }

    /// Puts a node under a name, which must be free.
    ///
    /// # Errors
    /// `ENOENT` for a removed directory, `ENOTDIR`.
    pub fn link(self: &Rc<Self>, name: &[u8], node: Rc<Self>) -> Result<(), Errno> {
        let directory = self.directory().ok_or(Errno::ENOTDIR)?;
        if directory.is_removed() {
            return Err(Errno::ENOENT);
        }
        if node.is_directory() {
            self.change(|meta| meta.nlink += 1);
        }
        self.adopt(directory, name, node);
        self.touch_modified();
        Ok(())
    }

    /// Takes a name away.
    pub fn unlink(&self, name: &[u8]) -> Option<Rc<Self>> {
        let directory = self.directory()?;
        let was_lower = directory.lower.borrow().as_ref().is_some_and(|lower| lower.has(name));
        let mut entries = directory.entries.borrow_mut();
        let before = if was_lower {
            entries.insert(name.into(), Entry::Whiteout)
        } else {
            entries.remove(name)
        };
        drop(entries);
        self.touch_modified();
        match before {
            Some(Entry::Node(node)) => {
                watch::leave(&node);
                if node.is_directory() {
                    self.change(|meta| meta.nlink = meta.nlink.saturating_sub(1));
                }
                Some(node)
            }
            _ => None,
        }
    }

    /// Brings every name of the layers into the entries.
    fn complete(self: &Rc<Self>, directory: &Directory) -> Result<(), Errno> {
        directory.refresh();
        let names = match &*directory.lower.borrow() {
            Some(lower) => lower.names()?,
            None => return Ok(()),
        };
        for name in names {
            let is_known = directory.entries.borrow().contains_key(&name[..]);
            if !is_known {
                let _ = self.lookup(&name);
            }
        }
        Ok(())
    }

    /// Calls a function with the names and nodes after a name, in order, until it says stop (false).
    ///
    /// # Errors
    /// `ENOTDIR`, errors of the image.
    pub fn list(
        self: &Rc<Self>,
        after: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &Rc<Self>) -> bool,
    ) -> Result<(), Errno> {
        let directory = match &self.kind {
            Kind::Directory(directory) => directory,
            Kind::Proc(proc) => return proc.list(self, after, &mut each),
            _ => return Err(Errno::ENOTDIR),
        };
        if after.is_none() {
            self.complete(directory)?;
        }
        let entries = directory.entries.borrow();
        let start = after.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        for (name, entry) in entries.range::<[u8], _>((start, core::ops::Bound::Unbounded)) {
            if let Entry::Node(node) = entry
                && !each(name, node)
            {
                break;
            }
        }
        Ok(())
    }

    /// Whether a directory has no entries.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn is_empty(self: &Rc<Self>) -> Result<bool, Errno> {
        let mut empty = true;
        self.list(None, |_, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    /// Mounts a file system's root on this directory.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn mount(self: &Rc<Self>, root: Rc<Self>) -> Result<(), Errno> {
        let below = root.directory().map(|directory| &directory.covers);
        if let Some(covers) = below {
            *covers.borrow_mut() = Some(self.clone());
        }
        *self.directory().ok_or(Errno::ENOTDIR)?.mounted.borrow_mut() = Some(root);
        Ok(())
    }
}

/// What mknod(2) makes for a mode; `None` for a type it does not know.
#[must_use]
pub fn kind_for(mode: u32) -> Option<Kind> {
    Some(match mode & S_IFMT {
        S_IFREG | 0 => Kind::File(FileData::new()),
        S_IFCHR | S_IFBLK => Kind::Device,
        S_IFIFO => Kind::Fifo(Rc::new(Pipe::new())),
        S_IFSOCK => Kind::Socket(RefCell::new(Weak::new())),
        S_IFLNK | S_IFDIR => return None,
        _ => return None,
    })
}

/// The group of a new node: its directory's if that says so.
#[must_use]
pub fn group_of_new(directory: &Meta, gid: u32) -> u32 {
    if directory.mode & S_ISGID != 0 { directory.gid } else { gid }
}

/// Major number of a device.
#[must_use]
pub const fn major(rdev: u64) -> u32 {
    ((rdev >> 8 & 0xfff) | (rdev >> 32 & !0xfff)) as u32
}

/// Minor number of a device.
#[must_use]
pub const fn minor(rdev: u64) -> u32 {
    ((rdev & 0xff) | (rdev >> 12 & !0xff)) as u32
}

/// A device number.
#[must_use]
pub const fn device_number(major: u32, minor: u32) -> u64 {
    (minor as u64 & 0xff) | (major as u64) << 8 | (minor as u64 & !0xff) << 12
}
