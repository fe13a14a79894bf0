//! What shows through a directory where it has no entries of its own: the layers of the image, or the devices that every container has.
//!
//! Devices become nodes when somebody looks at them, so that a compartment that never does pays nothing for /dev. The entries of /dev/pts are the
//! pseudo-terminals that live (pts(4)).

use super::{
    capacity::Capacity,
    layers::LowerDirectory,
    node::{self, Directory, Entry, Kind, Node},
};
use crate::{
    linux::{Errno, S_IFCHR, S_IFDIR, S_IFLNK},
    system::Terminals,
};
use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};

/// Number of /dev's file system.
pub const DEV: u64 = 0x32;
/// Number of /dev/shm's file system, and with what is added for each further one, of those that are mounted over the image by a container's own wish.
const MOUNTS: u64 = 0x80;
/// Bit of such a number: no programs are run from the file system.
const NO_EXEC: u64 = 1;
/// Bit of such a number: set-user-ID and set-group-ID bits count for nothing.
const NO_SET_ID: u64 = 2;
/// /dev/shm.
pub const SHARED_MEMORY: u64 = MOUNTS | NO_EXEC | NO_SET_ID;
/// Pages that /dev/shm may have: 64 MiB, as with docker.
pub const SHARED_MEMORY_PAGES: u64 = 16 * 1024;

/// Number of the file system of a container's mount with an index: what it forbids can be told from it.
#[must_use]
pub const fn mount_number(index: usize, no_exec: bool, no_set_id: bool) -> u64 {
    let forbidden = if no_exec { NO_EXEC } else { 0 } | if no_set_id { NO_SET_ID } else { 0 };
    (MOUNTS + 4 * (index as u64 + 1)) | forbidden
}

/// Whether a file system with a number forbids to run programs.
#[must_use]
pub const fn forbids_programs(device: u64) -> bool {
    device >= MOUNTS && device & NO_EXEC != 0
}

/// Whether a mapped file is in a file system that forbids to run programs.
#[must_use]
pub fn is_not_to_be_run(file: Option<&(Rc<Node>, u64)>) -> bool {
    file.is_some_and(|(node, _)| forbids_programs(node.device))
}

/// Whether a file system with a number forbids to become somebody else by running a program.
#[must_use]
pub const fn forbids_set_id(device: u64) -> bool {
    device >= MOUNTS && device & NO_SET_ID != 0
}
/// Group of terminals (`tty`).
const TTY_GROUP: u32 = 5;

/// What is below.
#[derive(Debug)]
pub enum Lower {
    /// Directories of the image.
    Layers(LowerDirectory),
    /// The contents of /dev.
    Devices(Rc<Terminals>),
    /// The contents of /dev/pts.
    Terminals(Rc<Terminals>),
}

/// What a name in /dev is.
#[derive(Clone, Copy)]
enum Device {
    /// A character device: major, minor, permissions.
    Character(u32, u32, u32),
    /// A symbolic link.
    Link(&'static [u8]),
    /// An empty directory that everybody may write.
    Shared,
    /// /dev/pts.
    Terminals,
}

/// The names of /dev.
const DEVICES: &[(&[u8], Device)] = &[
    (b"console", Device::Character(5, 1, 0o620)),
    (b"fd", Device::Link(b"/proc/self/fd")),
    (b"full", Device::Character(1, 7, 0o666)),
    (b"null", Device::Character(1, 3, 0o666)),
    (b"ptmx", Device::Character(5, 2, 0o666)),
    (b"pts", Device::Terminals),
    (b"random", Device::Character(1, 8, 0o666)),
    (b"shm", Device::Shared),
    (b"stderr", Device::Link(b"/proc/self/fd/2")),
    (b"stdin", Device::Link(b"/proc/self/fd/0")),
    (b"stdout", Device::Link(b"/proc/self/fd/1")),
    (b"tty", Device::Character(5, 0, 0o666)),
    (b"urandom", Device::Character(1, 9, 0o666)),
    (b"zero", Device::Character(1, 5, 0o666)),
];

impl Lower {
    /// Finds a name.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn find(&self, name: &[u8]) -> Result<Option<Rc<Node>>, Errno> {
        match self {
            Self::Layers(layers) => layers.find(name),
            Self::Devices(terminals) => Ok(device(name).map(|device| device.node(terminals))),
            Self::Terminals(_) => Ok(None),
        }
    }

    /// Whether a name shows.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::Layers(layers) => layers.has(name),
            Self::Devices(_) => device(name).is_some(),
            Self::Terminals(_) => false,
        }
    }

    /// All names.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        match self {
            Self::Layers(layers) => layers.names(),
            Self::Devices(_) => Ok(DEVICES.iter().map(|(name, _)| name.to_vec()).collect()),
            Self::Terminals(_) => Ok(Vec::new()),
        }
    }

    /// Brings a directory's entries up to date, where they come and go by themselves.
    pub fn refresh(&self, entries: &mut BTreeMap<Box<[u8]>, Entry>) {
        let Self::Terminals(terminals) = self else { return };
        let ptmx = entries.remove(&b"ptmx"[..]);
        entries.clear();
        let ptmx = ptmx.unwrap_or_else(|| Entry::Node(character(5, 2, 0o666, 0, 0)));
        entries.insert(b"ptmx"[..].into(), ptmx);
        for (number, node) in terminals.nodes() {
            entries.insert(alloc::format!("{number}").into_bytes().into(), Entry::Node(node));
        }
    }
}

/// The root of /dev.
#[must_use]
pub fn devices(terminals: &Rc<Terminals>) -> Rc<Node> {
    directory(Lower::Devices(terminals.clone()), 0o755)
}

/// The node of a pseudo-terminal that a user has made.
#[must_use]
pub fn terminal(number: u32, uid: u32) -> Rc<Node> {
    character(136, number, 0o620, uid, TTY_GROUP)
}

fn directory(lower: Lower, mode: u32) -> Rc<Node> {
    Node::new(Kind::Directory(Directory::new(Some(lower))), S_IFDIR | mode, 0, 0, 0, DEV)
}

fn character(major: u32, minor: u32, mode: u32, uid: u32, gid: u32) -> Rc<Node> {
    Node::new(Kind::Device, S_IFCHR | mode, uid, gid, node::device_number(major, minor), DEV)
}

fn device(name: &[u8]) -> Option<Device> {
    DEVICES.iter().find(|(known, _)| *known == name).map(|(_, device)| *device)
}

impl Device {
    fn node(self, terminals: &Rc<Terminals>) -> Rc<Node> {
        match self {
            Self::Character(major, minor, mode) => character(major, minor, mode, 0, 0),
            Self::Link(target) => {
                Node::new(Kind::Symlink(target.into()), S_IFLNK | 0o777, 0, 0, 0, DEV)
            }
            Self::Shared => {
                let root = Node::empty_directory(0o1777, 0, 0, SHARED_MEMORY);
                root.belong(&Rc::new(Capacity::new(SHARED_MEMORY_PAGES)));
                root
            }
            Self::Terminals => directory(Lower::Terminals(terminals.clone()), 0o755),
        }
    }
}
