//! Names: opening, making, removing, linking, renaming, directories (open(2), mkdir(2), unlink(2), rename(2), ...).

use super::{Call, Outcome};
use crate::{
    file::{
        Kind, Node,
        node::{self, Directory},
        path::{self, Found},
        watch,
    },
    linux::{
        AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, Errno, S_IFDIR, S_IFLNK, S_IFMT,
        S_IFREG,
    },
    machine::guest,
    task::credentials,
};
use alloc::{rc::Rc, vec::Vec};

/// Adds a new node at a path.
fn make(call: &mut Call<'_>, fd: i32, path: &[u8], kind: Kind, mode: u32, rdev: u64) -> Outcome {
    let credentials = call.task.credentials();
    call.at(fd, path, |walker| {
        let found = walker.walk(path, false)?;
        if found.node.is_some() {
            return Err(Errno::EEXIST);
        }
        if found.needs_directory && mode & S_IFMT != S_IFDIR {
            return Err(Errno::ENOENT);
        }
        walker.check_change(&found.directory, None)?;
        let directory = found.directory.meta();
        let gid = node::group_of_new(&directory, credentials.groups[3]);
        let inherited = if mode & S_IFMT == S_IFDIR { directory.mode & 0o2000 } else { 0 };
        let node = Node::new(
            kind,
            mode | inherited,
            credentials.users[3],
            gid,
            rdev,
            found.directory.device,
        );
        found.directory.link(&found.name, node.clone())?;
        watch::tell_entry(&found.directory, &found.name, &node, watch::CREATE);
        Ok(())
    })?;
    Ok(0)
}

fn make_directory(call: &mut Call<'_>, fd: i32, path: &[u8], mode: u32) -> Outcome {
    let mode = S_IFDIR | (mode & 0o1777 & !call.task.place().mask.get());
    make(call, fd, path, Kind::Directory(Directory::new(None)), mode, 0)
}

pub(super) fn mkdir(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let mode = call.argument(1) as u32;
    make_directory(call, AT_FDCWD, &path, mode)
}

pub(super) fn mkdirat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, mode) = (call.int(0), call.argument(2) as u32);
    make_directory(call, fd, &path, mode)
}

fn make_node(call: &mut Call<'_>, fd: i32, path: &[u8], mode: u32, rdev: u64) -> Outcome {
    let kind = node::kind_for(mode).ok_or(if mode & S_IFMT == S_IFDIR {
        Errno::EPERM
    } else {
        Errno::EINVAL
    })?;
    let is_device = matches!(kind, Kind::Device);
    if is_device && !call.task.credentials().has(credentials::CAP_MKNOD) {
        return Err(Errno::EPERM.into());
    }
    let file_type = if mode & S_IFMT == 0 { S_IFREG } else { mode & S_IFMT };
    let mode = file_type | (mode & 0o7777 & !call.task.place().mask.get());
    make(call, fd, path, kind, mode, if is_device { rdev } else { 0 })
}

pub(super) fn mknod(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let (mode, rdev) = (call.argument(1) as u32, call.argument(2));
    make_node(call, AT_FDCWD, &path, mode, rdev)
}

pub(super) fn mknodat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, mode, rdev) = (call.int(0), call.argument(2) as u32, call.argument(3));
    make_node(call, fd, &path, mode, rdev)
}

fn remove(call: &mut Call<'_>, fd: i32, path: &[u8], is_directory: bool) -> Outcome {
    call.at(fd, path, |walker| {
        let found = walker.walk(path, false)?;
        let node = found.node.clone().ok_or(Errno::ENOENT)?;
        if found.name.is_empty() {
            return Err(if path.ends_with(b"..") {
                Errno::ENOTEMPTY
            } else if is_directory {
                Errno::EINVAL
            } else {
                Errno::EISDIR
            });
        }
        walker.check_change(&found.directory, Some(&node))?;
        if is_directory {
            remove_directory(&found, &node)?;
        } else {
            if node.is_directory() {
                return Err(Errno::EISDIR);
            }
            if found.needs_directory {
                return Err(Errno::ENOTDIR);
            }
            found.directory.unlink(&found.name);
            node.change(|meta| meta.nlink = meta.nlink.saturating_sub(1));
            watch::tell_own(&node, watch::ATTRIBUTES);
        }
        watch::tell_entry(&found.directory, &found.name, &node, watch::DELETE);
        Ok(())
    })?;
    Ok(0)
}

fn remove_directory(found: &Found, node: &Rc<Node>) -> Result<(), Errno> {
    let directory = match &node.kind {
        Kind::Directory(directory) => directory,
        _ => return Err(Errno::ENOTDIR),
    };
    if found.directory.lookup(&found.name).is_ok_and(|covered| !Rc::ptr_eq(&covered, node)) {
        return Err(Errno::EBUSY);
    }
    if !node.is_empty()? {
        return Err(Errno::ENOTEMPTY);
    }
    found.directory.unlink(&found.name);
    directory.set_removed();
    node.change(|meta| meta.nlink = 0);
    Ok(())
}

pub(super) fn rmdir(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    remove(call, AT_FDCWD, &path, true)
}

pub(super) fn unlink(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    remove(call, AT_FDCWD, &path, false)
}

pub(super) fn unlinkat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, flags) = (call.int(0), call.argument(2) as u32);
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL.into());
    }
    remove(call, fd, &path, flags & AT_REMOVEDIR != 0)
}

const NOREPLACE: u64 = 1;
const EXCHANGE: u64 = 2;

fn rename_at(call: &mut Call<'_>, from: (i32, &[u8]), to: (i32, &[u8]), flags: u64) -> Outcome {
    if flags & !(NOREPLACE | EXCHANGE) != 0 || flags == NOREPLACE | EXCHANGE {
        return Err(Errno::EINVAL.into());
    }
    let old = call.at(from.0, from.1, |walker| {
        let found = walker.walk(from.1, false)?;
        let node = found.node.clone().ok_or(Errno::ENOENT)?;
        if found.name.is_empty() {
            return Err(Errno::EBUSY);
        }
        walker.check_change(&found.directory, Some(&node))?;
        if found.needs_directory && !node.is_directory() {
            Err(Errno::ENOTDIR)
        } else {
            Ok((found, node))
        }
    })?;
    let new = call.at(to.0, to.1, |walker| {
        let found = walker.walk(to.1, false)?;
        if found.name.is_empty() {
            return Err(Errno::EBUSY);
        }
        walker.check_change(&found.directory, found.node.as_ref())?;
        Ok(found)
    })?;
    let (old, node) = old;
    if old.directory.device != new.directory.device {
        return Err(Errno::EXDEV.into());
    }
    if new.needs_directory && !node.is_directory() && new.node.is_none() {
        return Err(Errno::ENOTDIR.into());
    }
    if is_inside(&new.directory, &node) {
        return Err(Errno::EINVAL.into());
    }
    match &new.node {
        Some(_) if flags & NOREPLACE != 0 => return Err(Errno::EEXIST.into()),
        Some(target) if flags & EXCHANGE != 0 => {
            if is_inside(&old.directory, target) {
                return Err(Errno::EINVAL.into());
            }
            let target = target.clone();
            old.directory.unlink(&old.name);
            new.directory.unlink(&new.name);
            old.directory.link(&old.name, target.clone())?;
            new.directory.link(&new.name, node.clone())?;
            let (old, new) = ((&*old.directory, &old.name[..]), (&*new.directory, &new.name[..]));
            watch::tell_move(old, new, &node);
            watch::tell_move(new, old, &target);
            return Ok(0);
        }
        Some(target) if Rc::ptr_eq(target, &node) => return Ok(0),
        Some(target) => replace_target(&new, target, &node)?,
        None if flags & EXCHANGE != 0 => return Err(Errno::ENOENT.into()),
        None => {}
    }
    old.directory.unlink(&old.name);
    new.directory.link(&new.name, node.clone())?;
    node.change(|_| {});
    watch::tell_move((&old.directory, &old.name), (&new.directory, &new.name), &node);
    Ok(0)
}

/// Makes way at the new name.
fn replace_target(new: &Found, target: &Rc<Node>, node: &Rc<Node>) -> Result<(), Errno> {
    if target.is_directory() {
        if !node.is_directory() {
            return Err(Errno::EISDIR);
        }
        return remove_directory(new, target);
    }
    if node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    new.directory.unlink(&new.name);
    target.change(|meta| meta.nlink = meta.nlink.saturating_sub(1));
    watch::tell_own(target, watch::ATTRIBUTES);
    Ok(())
}

/// Whether a directory is another one or below it.
fn is_inside(directory: &Rc<Node>, other: &Rc<Node>) -> bool {
    let mut current = Some(directory.clone());
    while let Some(node) = current {
        if Rc::ptr_eq(&node, other) {
            return true;
        }
        current = path::parent_of(&node);
    }
    false
}

pub(super) fn rename(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.path(0)?, call.path(1)?);
    rename_at(call, (AT_FDCWD, &from), (AT_FDCWD, &to), 0)
}

pub(super) fn renameat(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.path(1)?, call.path(3)?);
    let (from_fd, to_fd) = (call.int(0), call.int(2));
    rename_at(call, (from_fd, &from), (to_fd, &to), 0)
}

pub(super) fn renameat2(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.path(1)?, call.path(3)?);
    let (from_fd, to_fd, flags) = (call.int(0), call.int(2), call.argument(4));
    rename_at(call, (from_fd, &from), (to_fd, &to), flags)
}

fn link_at(call: &mut Call<'_>, from: (i32, &[u8]), to: (i32, &[u8]), flags: u32) -> Outcome {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let node =
        call.node_at(from.0, from.1, flags & AT_SYMLINK_FOLLOW != 0, flags & AT_EMPTY_PATH != 0)?;
    if node.is_directory() {
        return Err(Errno::EPERM.into());
    }
    call.at(to.0, to.1, |walker| {
        let found = walker.walk(to.1, false)?;
        if found.node.is_some() {
            return Err(Errno::EEXIST);
        }
        if found.needs_directory {
            return Err(Errno::ENOENT);
        }
        if found.directory.device != node.device {
            return Err(Errno::EXDEV);
        }
        walker.check_change(&found.directory, None)?;
        found.directory.link(&found.name, node.clone())?;
        node.change(|meta| meta.nlink += 1);
        watch::tell_own(&node, watch::ATTRIBUTES);
        watch::tell_entry(&found.directory, &found.name, &node, watch::CREATE);
        Ok(())
    })?;
    Ok(0)
}

pub(super) fn link(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.path(0)?, call.path(1)?);
    link_at(call, (AT_FDCWD, &from), (AT_FDCWD, &to), 0)
}

pub(super) fn linkat(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.path(1)?, call.path(3)?);
    let (from_fd, to_fd, flags) = (call.int(0), call.int(2), call.argument(4) as u32);
    link_at(call, (from_fd, &from), (to_fd, &to), flags)
}

fn symlink_at(call: &mut Call<'_>, target: Vec<u8>, fd: i32, path: &[u8]) -> Outcome {
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    make(call, fd, path, Kind::Symlink(target.into()), S_IFLNK | 0o777, 0)
}

pub(super) fn symlink(call: &mut Call<'_>) -> Outcome {
    let (target, path) = (call.path(0)?, call.path(1)?);
    symlink_at(call, target, AT_FDCWD, &path)
}

pub(super) fn symlinkat(call: &mut Call<'_>) -> Outcome {
    let (target, path) = (call.path(0)?, call.path(2)?);
    let fd = call.int(1);
    symlink_at(call, target, fd, &path)
}

fn readlink_at(call: &mut Call<'_>, fd: i32, path: &[u8], address: u64, length: u64) -> Outcome {
    if length as i64 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let node = call.node_at(fd, path, false, true)?;
    let target = match &node.kind {
        Kind::Symlink(target) => target.to_vec(),
        Kind::Proc(proc) => proc.link_text().ok_or(Errno::EINVAL)?,
        _ => return Err(Errno::EINVAL.into()),
    };
    let count = target.len().min(length as usize);
    guest::write_bytes(address, target.get(..count).unwrap_or_default())?;
    Ok(count as u64)
}

pub(super) fn readlink(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let (address, length) = (call.argument(1), call.argument(2));
    if path.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    readlink_at(call, AT_FDCWD, &path, address, length)
}

pub(super) fn readlinkat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, address, length) = (call.int(0), call.argument(2), call.argument(3));
    readlink_at(call, fd, &path, address, length)
}

fn change_directory(call: &Call<'_>, node: Rc<Node>) -> Outcome {
    if !node.is_directory() {
        return Err(Errno::ENOTDIR.into());
    }
    let meta = node.meta();
    if !call.task.credentials().may(meta.mode, meta.uid, meta.gid, 1) {
        return Err(Errno::EACCES.into());
    }
    *call.task.place().working.borrow_mut() = node;
    Ok(0)
}

pub(super) fn chdir(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.at(AT_FDCWD, &path, |walker| walker.find(&path, true))?;
    change_directory(call, node)
}

pub(super) fn fchdir(call: &mut Call<'_>) -> Outcome {
    let node = call.file(0)?.node.clone().ok_or(Errno::ENOTDIR)?;
    change_directory(call, node)
}

pub(super) fn chroot(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.at(AT_FDCWD, &path, |walker| walker.find(&path, true))?;
    if !node.is_directory() {
        return Err(Errno::ENOTDIR.into());
    }
    if !call.task.credentials().has(credentials::CAP_SYS_CHROOT) {
        return Err(Errno::EPERM.into());
    }
    *call.task.place().root.borrow_mut() = node;
    Ok(0)
}

pub(super) fn getcwd(call: &mut Call<'_>) -> Outcome {
    let place = call.task.place();
    let mut path = match path::path_of(&place.working.borrow(), &place.root.borrow()) {
        Some(path) => path,
        None if place.working.borrow().directory().is_some_and(Directory::is_removed) => {
            return Err(Errno::ENOENT.into());
        }
        None => b"(unreachable)/".to_vec(),
    };
    path.push(0);
    if path.len() as u64 > call.argument(1) {
        return Err(Errno::ERANGE.into());
    }
    guest::write_bytes(call.argument(0), &path)?;
    Ok(path.len() as u64)
}

pub(super) fn umask(call: &mut Call<'_>) -> Outcome {
    let before = call.task.place().mask.replace(call.argument(0) as u32 & 0o777);
    Ok(before.into())
}

pub(super) fn mount(call: &mut Call<'_>) -> Outcome {
    crate::gap!(call.system, "mount");
    Err(Errno::EPERM.into())
}

pub(super) fn umount2(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    call.node_at(AT_FDCWD, &path, true, false)?;
    crate::gap!(call.system, "umount2");
    Err(Errno::EPERM.into())
}
