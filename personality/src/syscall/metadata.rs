//! What is known of files (stat(2), access(2), chmod(2), chown(2), utimensat(2), statfs(2)).

use super::{Call, Outcome};
use crate::{
    file::{Node, Object, path, watch},
    linux::{
        AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Errno, S_IFCHR, S_IFDIR, S_IFMT,
        S_IFSOCK, S_ISGID,
        layouts::{Stat, Statfs, Timespec, Timeval},
    },
    machine::guest,
    system::time,
    task::credentials::{CAP_CHOWN, Credentials},
};
use alloc::{rc::Rc, vec::Vec};

/// stat(2) of something without a node.
fn stat_of_object(object: &Object, id: u64) -> Stat {
    let mode = match object {
        Object::Socket(_) => S_IFSOCK | 0o777,
        Object::Terminal(_) | Object::Master(_) => S_IFCHR | 0o620,
        _ => 0o600,
    };
    let rdev = match object {
        Object::Terminal(terminal) => crate::file::node::device_number(136, terminal.index),
        Object::Master(_) => crate::file::node::device_number(5, 2),
        _ => 0,
    };
    Stat { dev: 0xe, ino: 0x1000 + id, nlink: 1, mode, rdev, blksize: 4096, ..Stat::default() }
}

fn stat_path(call: &mut Call<'_>, fd: i32, path: &[u8], flags: u32, out: u64) -> Outcome {
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && fd != AT_FDCWD {
        return stat_file(call, fd, out);
    }
    let node =
        call.node_at(fd, path, flags & AT_SYMLINK_NOFOLLOW == 0, flags & AT_EMPTY_PATH != 0)?;
    guest::write(out, &node.stat())?;
    Ok(0)
}

fn stat_file(call: &mut Call<'_>, fd: i32, out: u64) -> Outcome {
    let file = call.file_of(fd)?;
    let stat = match &file.node {
        Some(node) => node.stat(),
        None => stat_of_object(&file.object, file.id),
    };
    guest::write(out, &stat)?;
    Ok(0)
}

pub(super) fn stat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let out = call.argument(1);
    stat_path(call, AT_FDCWD, &path, 0, out)
}

pub(super) fn lstat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let out = call.argument(1);
    stat_path(call, AT_FDCWD, &path, AT_SYMLINK_NOFOLLOW, out)
}

pub(super) fn fstat(call: &mut Call<'_>) -> Outcome {
    let (fd, out) = (call.int(0), call.argument(1));
    stat_file(call, fd, out)
}

pub(super) fn newfstatat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, out, flags) = (call.int(0), call.argument(2), call.argument(3) as u32);
    stat_path(call, fd, &path, flags, out)
}

pub(super) fn statx(call: &mut Call<'_>) -> Outcome {
    let path = if call.argument(1) == 0 { Vec::new() } else { call.path(1)? };
    let (fd, flags, out) = (call.int(0), call.argument(2) as u32, call.argument(4));
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && fd != AT_FDCWD {
        let file = call.file_of(fd)?;
        if file.node.is_none() {
            let stat = stat_of_object(&file.object, file.id);
            let statx = crate::linux::layouts::Statx {
                mask: 0x7ff,
                blksize: 4096,
                nlink: 1,
                mode: stat.mode as u16,
                ino: stat.ino,
                rdev_major: crate::file::node::major(stat.rdev),
                rdev_minor: crate::file::node::minor(stat.rdev),
                ..Default::default()
            };
            guest::write(out, &statx)?;
            return Ok(0);
        }
    }
    let node =
        call.node_at(fd, &path, flags & AT_SYMLINK_NOFOLLOW == 0, flags & AT_EMPTY_PATH != 0)?;
    guest::write(out, &node.statx())?;
    Ok(0)
}

fn access_at(call: &mut Call<'_>, fd: i32, path: &[u8], mode: u32, flags: u32) -> Outcome {
    if mode > 7 {
        return Err(Errno::EINVAL.into());
    }
    let own = call.task.credentials();
    let real;
    let credentials: &Credentials = if flags & AT_EACCESS != 0 {
        &own
    } else {
        let mut copy = (*own).clone();
        copy.users[3] = copy.users[0];
        copy.groups[3] = copy.groups[0];
        copy.effective = if copy.users[0] == 0 { copy.permitted } else { 0 };
        real = copy;
        &real
    };
    let node = {
        let place = call.task.place();
        let start = if path.first() == Some(&b'/') || fd == AT_FDCWD {
            None
        } else {
            call.file_of(fd)?.node.clone()
        };
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            start.clone().ok_or(Errno::ENOENT)?
        } else {
            path::Walker { place: &place, credentials, start }
                .find(path, flags & AT_SYMLINK_NOFOLLOW == 0)?
        }
    };
    let meta = node.meta();
    if mode != 0 && !credentials.may(meta.mode, meta.uid, meta.gid, mode) {
        return Err(Errno::EACCES.into());
    }
    if mode & 2 != 0 && path::is_read_only(&node) && node.is_directory() {
        return Err(Errno::EROFS.into());
    }
    Ok(0)
}

pub(super) fn access(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let mode = call.argument(1) as u32;
    access_at(call, AT_FDCWD, &path, mode, 0)
}

pub(super) fn faccessat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, mode) = (call.int(0), call.argument(2) as u32);
    access_at(call, fd, &path, mode, 0)
}

pub(super) fn faccessat2(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, mode, flags) = (call.int(0), call.argument(2) as u32, call.argument(3) as u32);
    access_at(call, fd, &path, mode, flags)
}

pub(super) fn check_writable(node: &Rc<Node>) -> Result<(), Errno> {
    if path::is_read_only(node) { Err(Errno::EROFS) } else { Ok(()) }
}

fn change_mode(call: &Call<'_>, node: &Rc<Node>, mode: u32) -> Outcome {
    let credentials = call.task.credentials();
    let meta = node.meta();
    if !credentials.owns(meta.uid) {
        return Err(Errno::EPERM.into());
    }
    check_writable(node)?;
    let mut mode = mode & 0o7777;
    if !credentials.may_set_group(meta.gid) {
        mode &= !S_ISGID;
    }
    node.change(|meta| meta.mode = meta.mode & S_IFMT | mode);
    watch::tell(node, watch::ATTRIBUTES);
    Ok(0)
}

pub(super) fn chmod(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, true, false)?;
    change_mode(call, &node, call.argument(1) as u32)
}

pub(super) fn fchmod(call: &mut Call<'_>) -> Outcome {
    let node = call.file(0)?.node.clone().ok_or(Errno::EINVAL)?;
    change_mode(call, &node, call.argument(1) as u32)
}

pub(super) fn fchmodat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let node = call.node_at(call.int(0), &path, true, false)?;
    change_mode(call, &node, call.argument(2) as u32)
}

pub(super) fn fchmodat2(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let flags = call.argument(3) as u32;
    let node = call.node_at(
        call.int(0),
        &path,
        flags & AT_SYMLINK_NOFOLLOW == 0,
        flags & AT_EMPTY_PATH != 0,
    )?;
    change_mode(call, &node, call.argument(2) as u32)
}

fn change_owner(call: &Call<'_>, node: &Rc<Node>, uid: u32, gid: u32) -> Outcome {
    let credentials = call.task.credentials();
    let meta = node.meta();
    let may_all = credentials.has(CAP_CHOWN);
    let keeps_user = uid == u32::MAX || uid == meta.uid;
    let own_group = gid == u32::MAX || gid == meta.gid || credentials.is_member(gid);
    if !(may_all || credentials.users[3] == meta.uid && keeps_user && own_group) {
        return Err(Errno::EPERM.into());
    }
    check_writable(node)?;
    node.change(|meta| {
        if meta.mode & S_IFMT != S_IFDIR {
            meta.mode = credentials.without_set_ids(meta.mode, meta.gid);
        }
        if uid != u32::MAX {
            meta.uid = uid;
        }
        if gid != u32::MAX {
            meta.gid = gid;
        }
    });
    watch::tell(node, watch::ATTRIBUTES);
    Ok(0)
}

pub(super) fn chown(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, true, false)?;
    change_owner(call, &node, call.argument(1) as u32, call.argument(2) as u32)
}

pub(super) fn lchown(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, false, false)?;
    change_owner(call, &node, call.argument(1) as u32, call.argument(2) as u32)
}

pub(super) fn fchown(call: &mut Call<'_>) -> Outcome {
    let node = call.file(0)?.node.clone().ok_or(Errno::EINVAL)?;
    change_owner(call, &node, call.argument(1) as u32, call.argument(2) as u32)
}

pub(super) fn fchownat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let flags = call.argument(4) as u32;
    let node = call.node_at(
        call.int(0),
        &path,
        flags & AT_SYMLINK_NOFOLLOW == 0,
        flags & AT_EMPTY_PATH != 0,
    )?;
    change_owner(call, &node, call.argument(2) as u32, call.argument(3) as u32)
}

/// Seconds and nanoseconds of the last access and the last change; none leaves what is there.
type Times = [Option<(i64, u32)>; 2];

/// Sets times; `None` leaves one, both now if there are none.
fn set_times(call: &Call<'_>, node: &Rc<Node>, times: Option<Times>) -> Outcome {
    let credentials = call.task.credentials();
    let meta = node.meta();
    let is_owner = credentials.owns(meta.uid);
    let may_now = is_owner || credentials.may(meta.mode, meta.uid, meta.gid, 2);
    match times {
        None if !may_now => return Err(Errno::EACCES.into()),
        Some(_) if !is_owner => return Err(Errno::EPERM.into()),
        _ => {}
    }
    check_writable(node)?;
    let now = time::realtime();
    let [accessed, modified] = times.unwrap_or([Some(now), Some(now)]);
    node.change(|meta| {
        meta.accessed = accessed.unwrap_or(meta.accessed);
        meta.modified = modified.unwrap_or(meta.modified);
    });
    watch::tell(node, watch::ATTRIBUTES);
    Ok(0)
}

pub(super) fn utime(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, true, false)?;
    let times = match call.argument(1) {
        0 => None,
        at => {
            let [accessed, modified]: [i64; 2] = guest::read(at)?;
            Some([Some((accessed, 0)), Some((modified, 0))])
        }
    };
    set_times(call, &node, times)
}

fn timevals(at: u64) -> Result<Option<Times>, Errno> {
    if at == 0 {
        return Ok(None);
    }
    let mut times = [None; 2];
    for (index, place) in times.iter_mut().enumerate() {
        let value: Timeval = guest::read(at + 16 * index as u64)?;
        if !(0..1_000_000).contains(&value.microseconds) {
            return Err(Errno::EINVAL);
        }
        *place = Some((value.seconds, value.microseconds as u32 * 1000));
    }
    Ok(Some(times))
}

pub(super) fn utimes(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, true, false)?;
    set_times(call, &node, timevals(call.argument(1))?)
}

pub(super) fn futimesat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let node = call.node_at(call.int(0), &path, true, false)?;
    set_times(call, &node, timevals(call.argument(2))?)
}

pub(super) fn utimensat(call: &mut Call<'_>) -> Outcome {
    const NOW: i64 = 0x3fff_ffff;
    const OMIT: i64 = 0x3fff_fffe;
    let flags = call.argument(3) as u32;
    let node = if call.argument(1) == 0 {
        call.file(0)?.node.clone().ok_or(Errno::EINVAL)?
    } else {
        let path = call.path(1)?;
        call.node_at(
            call.int(0),
            &path,
            flags & AT_SYMLINK_NOFOLLOW == 0,
            flags & AT_EMPTY_PATH != 0,
        )?
    };
    if call.argument(2) == 0 {
        return set_times(call, &node, None);
    }
    let mut times = [None; 2];
    let mut nows = 0;
    for (index, place) in times.iter_mut().enumerate() {
        let value: Timespec = guest::read(call.argument(2) + 16 * index as u64)?;
        *place = match value.nanoseconds {
            NOW => {
                nows += 1;
                Some(time::realtime())
            }
            OMIT => None,
            nanoseconds @ 0..1_000_000_000 => Some((value.seconds, nanoseconds as u32)),
            _ => return Err(Errno::EINVAL.into()),
        };
    }
    if times == [None, None] {
        return Ok(0);
    }
    set_times(call, &node, if nows == 2 { None } else { Some(times) })
}

fn fill_statfs(call: &Call<'_>, node: &Node, out: u64) -> Outcome {
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    const PROC: i64 = 0x9fa0;
    let kind = match (&node.kind, node.device) {
        (crate::file::Kind::Proc(_), _) => PROC,
        (_, crate::file::layers::ROOT_DEVICE) => OVERLAY,
        _ => TMPFS,
    };
    let (total, free) = node.capacity().map_or_else(
        || super::system_information::memory(call),
        |capacity| (capacity.limit().saturating_mul(4096), capacity.left().saturating_mul(4096)),
    );
    let statfs = Statfs {
        kind,
        bsize: 4096,
        blocks: total / 4096,
        bfree: free / 4096,
        bavail: free / 4096,
        files: 1 << 20,
        ffree: 1 << 19,
        fsid: [node.device as i32, 0],
        namelen: 255,
        frsize: 4096,
        flags: 0x20,
        ..Statfs::default()
    };
    guest::write(out, &statfs)?;
    Ok(0)
}

pub(super) fn statfs(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.node_at(AT_FDCWD, &path, true, false)?;
    fill_statfs(call, &node, call.argument(1))
}

pub(super) fn fstatfs(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    match &file.node {
        Some(node) => fill_statfs(call, node, call.argument(1)),
        None => {
            guest::write(
                call.argument(1),
                &Statfs {
                    kind: 0x5049_5045,
                    bsize: 4096,
                    namelen: 255,
                    frsize: 4096,
                    ..Statfs::default()
                },
            )?;
            Ok(0)
        }
    }
}
