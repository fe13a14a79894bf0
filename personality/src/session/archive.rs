//! Archives of the compartment's files: what `mett cp` reads and writes.
//!
//! A reader is asked for a part at a time, so that an archive of any size needs little memory and waits for whoever takes it. A writer takes parts
//! as they come and changes nothing outside the directory it was given.

use super::tar::{self, BLOCK, Entry, EntryKind};
use crate::{
    file::{
        Kind, Node,
        data::FileData,
        node::{self, Directory, Meta, kind_for},
        path::{Walker, covered, is_read_only},
    },
    linux::{Errno, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG},
    machine::guest::{Sink, Source},
    system::System,
    task::{Place, credentials::Credentials},
};
use alloc::{collections::BTreeMap, rc::Rc, vec::Vec};
use contract::compartment::{MAX_BYTES, PathStat};
use core::cell::{Cell, RefCell};

/// Calls a function with a walker that is root and begins at the root.
fn as_root<T>(root: &Rc<Node>, start: Option<Rc<Node>>, act: impl FnOnce(&Walker<'_>) -> T) -> T {
    let place = Place {
        root: RefCell::new(root.clone()),
        working: RefCell::new(root.clone()),
        mask: Cell::new(0),
    };
    let credentials = Credentials::new(0, 0, Vec::new());
    act(&Walker { place: &place, credentials: &credentials, start })
}

/// The last component of a path; `.` when it says so.
fn base_name(path: &[u8]) -> Vec<u8> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(at) => trimmed.get(at + 1..).unwrap_or_default().to_vec(),
        None => trimmed.to_vec(),
    }
}

/// What a path is; a symbolic link at its end is not followed.
///
/// # Errors
/// Of path resolution.
pub fn stat(system: &System, path: &[u8]) -> Result<PathStat, Errno> {
    let node = as_root(&system.root, None, |walker| walker.find(path, false))?;
    let meta = node.meta();
    let link_target = match &node.kind {
        Kind::Symlink(target) => target.to_vec(),
        _ => Vec::new(),
    };
    let size = node.size();
    Ok(PathStat {
        name: base_name(path),
        size,
        mode: meta.mode,
        modified: meta.modified.0,
        link_target,
    })
}

/// The directory and the name of an entry.
type Named = (Rc<Node>, Vec<u8>);

/// An archive that is being made.
#[derive(Debug)]
pub struct Reader {
    /// What is still to come, the next last.
    waiting: Vec<(Rc<Node>, Vec<u8>)>,
    /// The file whose contents are due: offset, and bytes up to the next header.
    file: Option<(Rc<Node>, u64, u64)>,
    /// Files with several names that are in the archive already.
    linked: BTreeMap<u64, Vec<u8>>,
    ready: Vec<u8>,
    is_over: bool,
}

impl Reader {
    /// Begins an archive of a path, under its last name.
    ///
    /// # Errors
    /// Of path resolution; `EINVAL` for what has no contents of its own (files of /proc).
    pub fn begin(system: &System, path: &[u8]) -> Result<Self, Errno> {
        let node = as_root(&system.root, None, |walker| walker.find(path, false))?;
        if matches!(node.kind, Kind::Proc(_)) {
            return Err(Errno::EINVAL);
        }
        let mut name = base_name(path);
        if name.is_empty() || name == b".." {
            name = b".".to_vec();
        }
        let waiting = alloc::vec![(node, name)];
        let (linked, ready) = (BTreeMap::new(), Vec::new());
        Ok(Self { waiting, file: None, linked, ready, is_over: false })
    }

    /// The next part, at most [`MAX_BYTES`]; empty at the end.
    ///
    /// # Errors
    /// Of the image.
    pub fn part(&mut self) -> Result<Vec<u8>, Errno> {
        while self.ready.len() < MAX_BYTES && !self.is_over {
            if self.file.is_some() {
                self.contents()?;
            } else if let Some((node, path)) = self.waiting.pop() {
                self.entry(&node, path)?;
            } else {
                self.ready.extend_from_slice(&[0; 2 * BLOCK]);
                self.is_over = true;
            }
        }
        let rest = self.ready.split_off(self.ready.len().min(MAX_BYTES));
        Ok(core::mem::replace(&mut self.ready, rest))
    }

    fn entry(&mut self, node: &Rc<Node>, path: Vec<u8>) -> Result<(), Errno> {
        let meta = node.meta();
        let mut entry = Entry {
            path,
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            modified: meta.modified.0,
            device: (node::major(meta.rdev), node::minor(meta.rdev)),
            ..Entry::default()
        };
        entry.xattrs = node
            .xattr_names()
            .into_iter()
            .filter_map(|name| node.xattr(&name).map(|value| (name, value)))
            .collect();
        entry.kind = match (&node.kind, meta.mode & S_IFMT) {
            (Kind::Directory(_), _) => EntryKind::Directory,
            (Kind::Symlink(target), _) => {
                entry.link = target.to_vec();
                EntryKind::Symlink
            }
            (Kind::File(_), _) => match self.linked.get(&node.id) {
                Some(first) => {
                    entry.link = first.clone();
                    EntryKind::Hardlink
                }
                None => {
                    entry.size = node.size();
                    EntryKind::File
                }
            },
            (Kind::Fifo(_), _) => EntryKind::Fifo,
            (Kind::Device, S_IFBLK) => EntryKind::Block,
            (Kind::Device, _) => EntryKind::Character,
            // A socket means nothing without its process; files of /proc have no contents to keep.
            (Kind::Socket(_) | Kind::Stream { .. } | Kind::Proc(_), _) => return Ok(()),
        };
        if entry.kind == EntryKind::Directory {
            self.children(node, &entry.path)?;
            entry.path.push(b'/');
        }
        if entry.kind == EntryKind::File {
            if meta.nlink > 1 {
                self.linked.insert(node.id, entry.path.clone());
            }
            self.file = Some((node.clone(), 0, entry.size));
        }
        tar::write_header(&mut self.ready, &entry);
        Ok(())
    }

    /// Puts a directory's entries on the list; what is mounted there is left out.
    fn children(&mut self, directory: &Rc<Node>, path: &[u8]) -> Result<(), Errno> {
        let first = self.waiting.len();
        let waiting = &mut self.waiting;
        directory.list(None, |name, child| {
            waiting.push((child.clone(), [path, b"/", name].concat()));
            true
        })?;
        self.waiting.get_mut(first..).unwrap_or_default().reverse();
        Ok(())
    }

    /// Adds contents of the file that is due. One that has become shorter is filled with zeros: the header has been sent.
    fn contents(&mut self) -> Result<(), Errno> {
        let Some((node, offset, size)) = self.file.take() else { return Ok(()) };
        let length = (size - offset).min(MAX_BYTES as u64) as usize;
        let begun = self.ready.len();
        self.ready.resize(begun + length, 0);
        if let Kind::File(data) = &node.kind
            && let Some(buffer) = self.ready.get_mut(begun..)
        {
            data.read(offset, &mut Sink::kernel(buffer))?;
        }
        let done = offset + length as u64;
        if done < size {
            self.file = Some((node, done, size));
        } else {
            self.ready.resize(self.ready.len() + tar::padding(size) as usize, 0);
        }
        Ok(())
    }
}

/// An archive that is being unpacked.
#[derive(Debug)]
pub struct Writer {
    root: Rc<Node>,
    directory: Rc<Node>,
    waiting: Vec<u8>,
    /// What extension headers said of the next entry.
    records: Vec<u8>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    body: Body,
    is_over: bool,
}

/// What the bytes after a header are.
#[derive(Debug)]
enum Body {
    /// A header comes.
    None,
    /// Contents of a file (or of nothing): where they go, how many are left, padding.
    Contents(Option<Rc<Node>>, u64, u64, u64),
    /// An extension header's contents.
    Extension(EntryKind, u64),
}

impl Writer {
    /// Begins to unpack into a directory.
    ///
    /// # Errors
    /// Of path resolution, `ENOTDIR`.
    pub fn begin(system: &System, path: &[u8]) -> Result<Self, Errno> {
        let root = system.root.clone();
        let directory = as_root(&root, None, |walker| walker.find(path, true))?;
        if directory.directory().is_none() {
            return Err(Errno::ENOTDIR);
        }
        Ok(Self {
            root,
            directory,
            waiting: Vec::new(),
            records: Vec::new(),
            long_name: None,
            long_link: None,
            body: Body::None,
            is_over: false,
        })
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// `EINVAL` for what is no archive, and those of the file system.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        if self.is_over {
            // What follows the end means nothing (GNU tar pads to its record size).
            return Ok(());
        }
        self.waiting.extend_from_slice(bytes);
        while !self.is_over && self.step()? {}
        Ok(())
    }

    /// The archive has ended.
    ///
    /// # Errors
    /// `EINVAL` when it is cut off.
    pub fn finish(&self) -> Result<(), Errno> {
        let is_between = matches!(self.body, Body::None) && self.waiting.is_empty();
        if self.is_over || is_between { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Uses some of what waits; false when more has to come.
    fn step(&mut self) -> Result<bool, Errno> {
        match core::mem::replace(&mut self.body, Body::None) {
            Body::None => {
                let Some(block) = self.waiting.first_chunk::<BLOCK>() else { return Ok(false) };
                let header = tar::read_header(block)?;
                self.waiting.drain(..BLOCK);
                match header {
                    Some(entry) => self.header(entry)?,
                    None => self.is_over = true,
                }
                Ok(true)
            }
            Body::Contents(node, at, left, padding) => {
                let count = self.waiting.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if let Some(Kind::File(data)) = node.as_ref().map(|node| &node.kind) {
                    let bytes = self.waiting.get(..count).unwrap_or_default();
                    if data.write(at, &mut Source::kernel(bytes), u64::MAX)? < count {
                        return Err(Errno::ENOSPC);
                    }
                }
                self.waiting.drain(..count);
                let left = left - count as u64;
                if left == 0 && self.waiting.len() as u64 >= padding {
                    self.waiting.drain(..padding as usize);
                    return Ok(true);
                }
                self.body = Body::Contents(node, at + count as u64, left, padding);
                Ok(false)
            }
            Body::Extension(kind, size) => {
                if (self.waiting.len() as u64) < size + tar::padding(size) {
                    self.body = Body::Extension(kind, size);
                    return Ok(false);
                }
                let bytes: Vec<u8> = self.waiting.drain(..size as usize).collect();
                self.waiting.drain(..tar::padding(size) as usize);
                let name = || bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                match kind {
                    EntryKind::Pax => self.records = bytes,
                    EntryKind::LongName => self.long_name = Some(name()),
                    EntryKind::LongLink => self.long_link = Some(name()),
                    _ => {}
                }
                Ok(true)
            }
        }
    }

    fn header(&mut self, mut entry: Entry) -> Result<(), Errno> {
        if matches!(
            entry.kind,
            EntryKind::Pax | EntryKind::GlobalPax | EntryKind::LongName | EntryKind::LongLink
        ) {
            if entry.size > tar::MAX_EXTENSION {
                return Err(Errno::EINVAL);
            }
            self.body = Body::Extension(entry.kind, entry.size);
            return Ok(());
        }
        if let Some(name) = self.long_name.take() {
            entry.path = name;
        }
        if let Some(link) = self.long_link.take() {
            entry.link = link;
        }
        tar::apply_records(&core::mem::take(&mut self.records), &mut entry)?;
        let node = self.make(&entry)?;
        if entry.size > 0 {
            let node = node.filter(|_| entry.kind == EntryKind::File);
            self.body = Body::Contents(node, 0, entry.size, tar::padding(entry.size));
        }
        Ok(())
    }

    /// Makes an entry's node; nothing for the directory itself.
    fn make(&self, entry: &Entry) -> Result<Option<Rc<Node>>, Errno> {
        let Some((parent, name)) = self.place(&entry.path)? else { return Ok(None) };
        if is_read_only(&parent) {
            return Err(Errno::EROFS);
        }
        let existing = parent.lookup(&name).ok().map(covered);
        if let Some(existing) = existing {
            if existing.is_directory() {
                if entry.kind != EntryKind::Directory {
                    return Err(Errno::EISDIR);
                }
                dress(&existing, entry);
                return Ok(Some(existing));
            }
            if let Some(gone) = parent.unlink(&name) {
                gone.change(|meta| meta.nlink = meta.nlink.saturating_sub(1));
            }
        }
        let node = self.create(entry, &parent)?;
        parent.link(&name, node.clone())?;
        if entry.kind == EntryKind::Hardlink {
            node.change(|meta| meta.nlink += 1);
        } else {
            dress(&node, entry);
        }
        Ok(Some(node))
    }

    fn create(&self, entry: &Entry, parent: &Rc<Node>) -> Result<Rc<Node>, Errno> {
        let (kind, mode) = match entry.kind {
            EntryKind::Directory => (Kind::Directory(Directory::new(None)), S_IFDIR),
            EntryKind::Symlink => (Kind::Symlink(entry.link.as_slice().into()), S_IFLNK),
            EntryKind::Character => (Kind::Device, S_IFCHR),
            EntryKind::Block => (Kind::Device, S_IFBLK),
            EntryKind::Fifo => (kind_for(S_IFIFO).ok_or(Errno::EINVAL)?, S_IFIFO),
            EntryKind::Hardlink => {
                let (directory, name) = self.place(&entry.link)?.ok_or(Errno::EINVAL)?;
                let target = directory.lookup(&name)?;
                return if target.is_directory() { Err(Errno::EPERM) } else { Ok(target) };
            }
            _ => (Kind::File(FileData::new()), S_IFREG),
        };
        let device = node::device_number(entry.device.0, entry.device.1);
        Ok(Node::new(kind, mode | entry.mode, entry.uid, entry.gid, device, parent.device))
    }

    /// The directory and the name of an entry; directories that are missing are made. Names that lead upwards are refused.
    fn place(&self, path: &[u8]) -> Result<Option<Named>, Errno> {
        let parts: Vec<&[u8]> = path
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        if parts.contains(&&b".."[..]) {
            return Err(Errno::EINVAL);
        }
        let Some((name, above)) = parts.split_last() else { return Ok(None) };
        if name.len() > crate::linux::NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut current = self.directory.clone();
        for part in above {
            let found =
                as_root(&self.root, Some(current.clone()), |walker| walker.find(part, true));
            current = match found {
                Ok(node) if node.directory().is_some() => node,
                Ok(_) => return Err(Errno::ENOTDIR),
                Err(Errno::ENOENT) if !is_read_only(&current) => {
                    let made = Node::empty_directory(0o755, 0, 0, current.device);
                    current.link(part, made.clone())?;
                    made
                }
                Err(Errno::ENOENT) => return Err(Errno::EROFS),
                Err(errno) => return Err(errno),
            };
        }
        Ok(Some((current, name.to_vec())))
    }
}

/// Gives a node what its entry says of it.
fn dress(node: &Rc<Node>, entry: &Entry) {
    for (name, value) in &entry.xattrs {
        // Without flags nothing is in its way.
        let _ = node.set_xattr(name, value, 0);
    }
    node.change(|meta: &mut Meta| {
        meta.mode = meta.mode & S_IFMT | entry.mode;
        (meta.uid, meta.gid) = (entry.uid, entry.gid);
        meta.modified = (entry.modified, 0);
    });
}
