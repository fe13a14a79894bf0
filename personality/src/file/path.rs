//! Paths (path_resolution(7)).

use super::{Kind, Node, node::Meta};
use crate::{
    linux::{Errno, NAME_MAX},
    task::{Place, credentials::Credentials},
};
use alloc::{rc::Rc, vec::Vec};

/// Most symbolic links on a way.
const MAX_LINKS: u32 = 40;
/// Sticky bit.
const STICKY: u32 = 0o1000;

/// Who walks, and from where.
pub struct Walker<'a> {
    /// Root and working directory.
    pub place: &'a Place,
    /// Permissions.
    pub credentials: &'a Credentials,
    /// Where relative paths begin, if not in the working directory.
    pub start: Option<Rc<Node>>,
}

impl core::fmt::Debug for Walker<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Walker")
    }
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Found {
    /// The directory of the last component.
    pub directory: Rc<Node>,
    /// The last component; empty for the root, `.` and `..`.
    pub name: Vec<u8>,
    /// What is there.
    pub node: Option<Rc<Node>>,
    /// The path ended with a slash.
    pub needs_directory: bool,
}

impl Found {
    /// The node.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn node(self) -> Result<Rc<Node>, Errno> {
        match self.node {
            Some(node) if self.needs_directory && !node.is_directory() => Err(Errno::ENOTDIR),
            Some(node) => Ok(node),
            None => Err(Errno::ENOENT),
        }
    }
}

/// What is mounted on a node, if something is.
#[must_use]
pub fn covered(node: Rc<Node>) -> Rc<Node> {
    match node.directory().and_then(super::node::Directory::mounted) {
        Some(root) => covered(root),
        None => node,
    }
}

impl Walker<'_> {
    fn first(&self, path: &[u8]) -> Rc<Node> {
        match &self.start {
            _ if path.first() == Some(&b'/') => self.place.root.borrow().clone(),
            Some(start) => start.clone(),
            None => self.place.working.borrow().clone(),
        }
    }

    /// Whether a node may be searched or otherwise accessed.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, meta: &Meta, wanted: u32) -> Result<(), Errno> {
        if self.credentials.may(meta.mode, meta.uid, meta.gid, wanted) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Finds the node of a path, following a last symbolic link or not.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, errors of the image.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<Rc<Node>, Errno> {
        self.walk(path, follow)?.node()
    }

    /// Walks a path up to its last component.
    ///
    /// # Errors
    /// As [`Self::find`], but that nothing is at the end is no error.
    pub fn walk(&self, path: &[u8], follow: bool) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut links = 0;
        self.walk_from(self.first(path), path, follow, &mut links)
    }

    fn walk_from(
        &self,
        start: Rc<Node>,
        path: &[u8],
        follow: bool,
        links: &mut u32,
    ) -> Result<Found, Errno> {
        let mut current = start;
        let mut rest = path;
        loop {
            let skipped = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
            rest = rest.get(skipped..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Found {
                    directory: current.clone(),
                    name: Vec::new(),
                    node: Some(current),
                    needs_directory: true,
                });
            }
            let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (name, after) = rest.split_at(length);
            let is_last = after.iter().all(|byte| *byte == b'/');
            if !current.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            self.check(&current.meta(), 1)?;
            if name == b"." || name == b".." {
                if name == b".." {
                    current = self.parent(&current);
                }
                if is_last {
                    return Ok(Found {
                        directory: current.clone(),
                        name: Vec::new(),
                        node: Some(current),
                        needs_directory: true,
                    });
                }
                rest = after;
                continue;
            }
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let found = match current.lookup(name) {
                Ok(node) => Some(covered(node)),
                Err(Errno::ENOENT) if is_last => None,
                Err(errno) => return Err(errno),
            };
            let needs_directory = is_last && !after.is_empty();
            let link =
                found.as_ref().and_then(link_of).filter(|_| !is_last || follow || needs_directory);
            if let Some(link) = link {
                *links += 1;
                if *links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                match link {
                    Link::Node(node) if is_last => {
                        return Ok(Found {
                            directory: current,
                            name: name.to_vec(),
                            node: Some(node),
                            needs_directory,
                        });
                    }
                    Link::Node(node) => current = node,
                    Link::Text(target) => {
                        let mut whole = target;
                        whole.extend_from_slice(after);
                        let start = if whole.first() == Some(&b'/') {
                            self.place.root.borrow().clone()
                        } else {
                            current
                        };
                        if whole.is_empty() {
                            return Err(Errno::ENOENT);
                        }
                        return self.walk_from(start, &whole, follow, links);
                    }
                }
                rest = after;
                continue;
            }
            if is_last {
                return Ok(Found {
                    directory: current,
                    name: name.to_vec(),
                    node: found,
                    needs_directory,
                });
            }
            current = found.ok_or(Errno::ENOENT)?;
            rest = after;
        }
    }

    /// The directory above; the root's is itself.
    fn parent(&self, node: &Rc<Node>) -> Rc<Node> {
        if Rc::ptr_eq(node, &self.place.root.borrow()) {
            return node.clone();
        }
        parent_of(node).unwrap_or_else(|| node.clone())
    }

    /// Checks that an entry may be added to or taken from a directory.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, `EPERM` (sticky).
    pub fn check_change(
        &self,
        directory: &Rc<Node>,
        victim: Option<&Rc<Node>>,
    ) -> Result<(), Errno> {
        if matches!(directory.kind, Kind::Proc(_)) {
            return Err(Errno::EPERM);
        }
        if is_read_only(directory) {
            return Err(Errno::EROFS);
        }
        let meta = directory.meta();
        self.check(&meta, 3)?;
        if let Some(victim) = victim
            && meta.mode & STICKY != 0
            && !self.credentials.owns(victim.meta().uid)
            && !self.credentials.owns(meta.uid)
        {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// The directory above a directory.
#[must_use]
pub fn parent_of(node: &Rc<Node>) -> Option<Rc<Node>> {
    match &node.kind {
        Kind::Directory(directory) => directory.parent(),
        Kind::Proc(proc) => proc.parent(node),
        _ => None,
    }
}

/// Whether the file system of a node is read-only.
#[must_use]
pub fn is_read_only(node: &Rc<Node>) -> bool {
    let mut current = Some(node.clone());
    while let Some(node) = current {
        let Some(directory) = node.directory() else { return false };
        if directory.is_read_only() {
            return true;
        }
        current = directory.parent().filter(|parent| parent.device == node.device);
    }
    false
}

/// Where a symbolic link leads.
enum Link {
    /// To a path.
    Text(Vec<u8>),
    /// To a node (/proc/PID/fd, cwd, root, exe).
    Node(Rc<Node>),
}

fn link_of(node: &Rc<Node>) -> Option<Link> {
    match &node.kind {
        Kind::Symlink(target) => Some(Link::Text(target.to_vec())),
        Kind::Proc(proc) => match proc.link_node() {
            Some(node) => Some(Link::Node(node)),
            None => proc.link_text().map(Link::Text),
        },
        _ => None,
    }
}

/// The path of a directory from a root; `None` if it cannot be reached from there.
#[must_use]
pub fn path_of(node: &Rc<Node>, root: &Rc<Node>) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut current = node.clone();
    while !Rc::ptr_eq(&current, root) {
        let (name, removed) = match &current.kind {
            Kind::Directory(directory) => (directory.name(), directory.is_removed()),
            Kind::Proc(proc) => (proc.name(), false),
            _ => return None,
        };
        if removed {
            return None;
        }
        parts.push(name);
        current = parent_of(&current)?;
    }
    let mut path = Vec::new();
    for part in parts.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}
