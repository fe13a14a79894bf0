//! The file systems a compartment begins with: the image as the root, and what every container has over it.

use crate::{
    file::{Kind, Node, capacity::Capacity, data::FileData, lower, path::Walker, proc},
    linux::{Errno, S_IFREG},
    machine::guest::Source,
    system::Terminals,
    task::{Place, Processes, credentials::Credentials},
};
use alloc::{rc::Rc, vec::Vec};
use contract::compartment::{Mount, Spec};
use core::cell::{Cell, RefCell};
use kernel_abi::PAGE_SIZE;

/// Paths that nearly every start walks: who the user is, where programs and their interpreters lie.
const WALKED: [&[u8]; 9] = [
    b"/etc/passwd",
    b"/etc/group",
    b"/usr/local/sbin",
    b"/usr/local/bin",
    b"/usr/sbin",
    b"/usr/bin",
    b"/sbin",
    b"/bin",
    b"/lib64/ld-linux-x86-64.so.2",
];

/// Finds in the image what nearly every start looks for, so that a template knows it. What is not there is no error.
pub fn explore(root: &Rc<Node>) {
    let _ = as_root(root, |walker| {
        WALKED.iter().for_each(|path| drop(walker.find(path, true)));
        Ok(())
    });
}

/// Mounts what every container has over the image's root.
///
/// # Errors
/// Of the image, or when memory is exhausted.
pub fn mount_common(
    root: &Rc<Node>,
    processes: &Rc<Processes>,
    terminals: &Rc<Terminals>,
) -> Result<(), Errno> {
    as_root(root, |walker| {
        for (path, file_system) in [
            (&b"/proc"[..], proc::proc_root(processes)),
            (b"/sys", proc::sys_root(processes)),
            (b"/dev", lower::devices(terminals)),
        ] {
            make_directories(walker, path)?.mount(file_system)?;
        }
        Ok(())
    })
}

/// Adds what this container is to have.
///
/// # Errors
/// Of the image, or when memory is exhausted.
pub fn furnish(root: &Rc<Node>, spec: &Spec) -> Result<(), Errno> {
    as_root(root, |walker| {
        for path in &spec.directories {
            make_directories(walker, path)?;
        }
        for (path, contents) in &spec.files {
            write_file(walker, path, contents)?;
        }
        // The root's flag comes last: until then everything above is written.
        for (index, mount) in spec.mounts.iter().enumerate() {
            let device = lower::mount_number(index, mount.no_exec, mount.no_set_id);
            mount_memory(walker, mount, device)?;
        }
        if let Some(directory) = root.directory() {
            directory.set_read_only(spec.read_only);
        }
        Ok(())
    })
}

/// Walks from a root with all rights.
fn as_root(
    root: &Rc<Node>,
    walk: impl FnOnce(&Walker<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let place = Place {
        root: RefCell::new(root.clone()),
        working: RefCell::new(root.clone()),
        mask: Cell::new(0),
    };
    let credentials = Credentials::new(0, 0, Vec::new());
    walk(&Walker { place: &place, credentials: &credentials, start: None })
}

fn mount_memory(walker: &Walker<'_>, mount: &Mount, device: u64) -> Result<(), Errno> {
    let root = Node::empty_directory(mount.mode.unwrap_or(0o1777) & 0o7777, 0, 0, device);
    if let Some(directory) = root.directory() {
        directory.set_read_only(mount.read_only);
    }
    // As tmpfs(5) has it: 0 is no limit.
    if let Some(size) = mount.size.filter(|size| *size > 0) {
        root.belong(&Rc::new(Capacity::new(size.div_ceil(PAGE_SIZE))));
    }
    make_directories(walker, &mount.destination)?.mount(root)
}

/// Makes a directory with everything above it; the directory.
///
/// # Errors
/// `ENOTDIR` when something else is in the way, and those of path resolution.
pub fn make_directories(walker: &Walker<'_>, path: &[u8]) -> Result<Rc<Node>, Errno> {
    let mut current = walker.place.root.borrow().clone();
    let mut so_far: Vec<u8> = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
        so_far.push(b'/');
        so_far.extend_from_slice(name);
        current = match plain_child(&current, name).unwrap_or_else(|| walker.find(&so_far, true)) {
            Ok(node) if node.is_directory() => node,
            Ok(_) => return Err(Errno::ENOTDIR),
            Err(Errno::ENOENT) => {
                let node = Node::empty_directory(0o755, 0, 0, current.device);
                current.link(name, node.clone())?;
                node
            }
            Err(errno) => return Err(errno),
        };
    }
    Ok(current)
}

/// What a directory has under a name, where nothing can lead elsewhere: no mount, no symbolic link, no `..`.
fn plain_child(directory: &Rc<Node>, name: &[u8]) -> Option<Result<Rc<Node>, Errno>> {
    let is_plain = |node: &Node| node.directory().is_some_and(|own| own.mounted().is_none());
    if name == b".." || !is_plain(directory) {
        return None;
    }
    match directory.lookup(name) {
        Ok(node) if !is_plain(&node) => None,
        found => Some(found),
    }
}

/// Puts a file over the image.
fn write_file(walker: &Walker<'_>, path: &[u8], contents: &[u8]) -> Result<(), Errno> {
    let split = path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
    let (directory, name) = path.split_at(split);
    let directory = make_directories(walker, directory)?;
    let name = name.get(1..).filter(|name| !name.is_empty()).ok_or(Errno::EINVAL)?;
    let data = FileData::new();
    data.write(0, &mut Source::kernel(contents), u64::MAX)?;
    let node = Node::new(Kind::File(data), S_IFREG | 0o644, 0, 0, 0, directory.device);
    directory.unlink(name);
    directory.link(name, node)
}
