//! Opening and making files (open(2), openat2(2)).

use super::{Call, Outcome};
use crate::{
    file::{
        Kind, Node, Object, OpenFile,
        data::FileData,
        node::{self},
        path::{self, Found},
        terminal::Terminal,
        watch,
    },
    linux::{
        AT_FDCWD, Errno, O_ACCMODE, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL,
        O_LARGEFILE, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_TMPFILE, O_TRUNC,
        O_WRONLY, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK,
    },
    machine::guest,
    wait::{Stop, WAIT},
};
use alloc::rc::Rc;

/// Flags of open(2) that stay with the open file.
const KEPT: u32 = O_ACCMODE | O_APPEND | O_NONBLOCK | O_PATH | O_DIRECT | O_LARGEFILE | O_DIRECTORY;

fn opens_for_write(flags: u32) -> bool {
    flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0
}

fn open_at(call: &mut Call<'_>, fd: i32, path: &[u8], flags: u32, mode: u32) -> Outcome {
    let follow = flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL;
    if flags & O_TMPFILE == O_TMPFILE {
        return open_unnamed(call, fd, path, flags, mode);
    }
    let mask = call.task.place().mask.get();
    let credentials = call.task.credentials();
    let (node, is_new) = call.at(fd, path, |walker| {
        let found = walker.walk(path, follow)?;
        if let Some(node) = found.node.clone() {
            if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
                return Err(Errno::EEXIST);
            }
            check_open(walker, &found, &node, flags)?;
            return Ok((node, false));
        }
        if flags & O_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if found.needs_directory {
            return Err(Errno::EISDIR);
        }
        walker.check_change(&found.directory, None)?;
        let directory = found.directory.meta();
        let gid = node::group_of_new(&directory, credentials.groups[3]);
        let kind = Kind::File(FileData::new());
        let node = Node::new(
            kind,
            S_IFREG | (mode & 0o7777 & !mask),
            credentials.users[3],
            gid,
            0,
            found.directory.device,
        );
        found.directory.link(&found.name, node.clone())?;
        watch::tell_entry(&found.directory, &found.name, &node, watch::CREATE);
        Ok((node, true))
    })?;
    if flags & O_TRUNC != 0
        && !is_new
        && let Kind::File(data) = &node.kind
    {
        super::sizes::set_size(call, &node, data, 0)?;
    }
    finish_open(call, &node, flags, path)
}

/// Checks that a node may be opened with flags.
fn check_open(
    walker: &path::Walker<'_>,
    found: &Found,
    node: &Rc<Node>,
    flags: u32,
) -> Result<(), Errno> {
    if (found.needs_directory || flags & O_DIRECTORY != 0) && !node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if flags & O_PATH != 0 {
        return Ok(());
    }
    match node.file_type() {
        S_IFLNK => return Err(Errno::ELOOP),
        S_IFDIR if opens_for_write(flags) || flags & O_CREAT != 0 => return Err(Errno::EISDIR),
        S_IFSOCK => return Err(Errno::ENXIO),
        _ => {}
    }
    let mut wanted = match flags & O_ACCMODE {
        O_RDONLY => 4,
        O_WRONLY => 2,
        _ => 6,
    };
    if flags & O_TRUNC != 0 {
        wanted |= 2;
    }
    let meta = node.meta();
    walker.check(&meta, wanted)?;
    let is_device = matches!(node.file_type(), S_IFCHR | S_IFBLK | S_IFIFO);
    let is_read_only = wanted & 2 != 0 && !is_device && path::is_read_only(&found.directory);
    match &node.kind {
        _ if is_read_only => Err(Errno::EROFS),
        Kind::File(data) if wanted & 2 != 0 && data.uses.is_run() => Err(Errno::ETXTBSY),
        _ => Ok(()),
    }
}

fn open_unnamed(call: &mut Call<'_>, fd: i32, path: &[u8], flags: u32, mode: u32) -> Outcome {
    if flags & O_ACCMODE == O_RDONLY {
        return Err(Errno::EINVAL.into());
    }
    let directory = call.at(fd, path, |walker| {
        let node = walker.find(path, true)?;
        if !node.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        walker.check_change(&node, None)?;
        Ok(node)
    })?;
    let mask = call.task.place().mask.get();
    let credentials = call.task.credentials();
    let gid = node::group_of_new(&directory.meta(), credentials.groups[3]);
    let node = Node::new(
        Kind::File(FileData::new()),
        S_IFREG | (mode & 0o7777 & !mask),
        credentials.users[3],
        gid,
        0,
        directory.device,
    );
    node.change(|meta| meta.nlink = 0);
    if let Some(capacity) = directory.capacity() {
        node.belong(capacity);
    }
    finish_open(call, &node, flags & !O_DIRECTORY, path)
}

/// Makes the open file of a node.
fn finish_open(call: &mut Call<'_>, node: &Rc<Node>, flags: u32, path: &[u8]) -> Outcome {
    let kept = flags & KEPT;
    let object = if flags & O_PATH != 0 {
        Object::Node
    } else {
        match &node.kind {
            Kind::Fifo(pipe) => {
                let waiting = call.task.opening.borrow().clone();
                let file = waiting.unwrap_or_else(|| {
                    OpenFile::new(
                        Object::Pipe(pipe.clone()),
                        Some(node.clone()),
                        kept,
                        path.to_vec(),
                    )
                });
                return open_fifo(call, pipe, file, flags);
            }
            Kind::Device => open_device(call, node, flags)?,
            Kind::Stream { stream, is_input } => match (flags & O_ACCMODE, is_input) {
                (O_RDONLY, true) => Object::Input(stream.clone()),
                (_, false) if flags & O_ACCMODE != O_RDONLY => Object::Output(stream.clone()),
                _ => return Err(Errno::EACCES.into()),
            },
            Kind::Proc(proc) if flags & O_ACCMODE != O_RDONLY && proc.is_read_only() => {
                crate::gap!(call.system, "open: a setting of the kernel for writing");
                return Err(Errno::EROFS.into());
            }
            Kind::Proc(_) if !node.is_directory() => Object::Text(Default::default()),
            _ => Object::Node,
        }
    };
    let file = OpenFile::new(object, Some(node.clone()), kept, path.to_vec());
    file.opened_by_name();
    if flags & O_PATH == 0 {
        watch::tell(node, watch::OPEN);
    }
    call.install(file, flags & O_CLOEXEC != 0).map_err(Stop::from)
}

/// A FIFO's open waits for the other side; the open file is kept meanwhile, so that the other side sees it.
fn open_fifo(
    call: &mut Call<'_>,
    pipe: &Rc<crate::file::pipe::Pipe>,
    file: Rc<OpenFile>,
    flags: u32,
) -> Outcome {
    let (readers, writers) = pipe.ends();
    let close_on_exec = flags & O_CLOEXEC != 0;
    let is_unnamed = file.node.as_ref().is_some_and(|node| node.device == node::PIPES);
    let is_alone = match flags & O_ACCMODE {
        // A pipe without a name is opened again through /proc: nobody is waited for.
        _ if is_unnamed => false,
        O_RDONLY => writers == 0,
        O_WRONLY => readers == 0,
        _ => false,
    };
    let other = usize::from(flags & O_ACCMODE == O_RDONLY);
    let mut state = call.task.call.get();
    let seen = pipe.opened.get(other).map_or(0, |count| count.get());
    let has_met = state.memo != 0 && state.memo - 1 != seen;
    if !is_alone || has_met {
        return call.install(file, close_on_exec).map_err(Stop::from);
    }
    if flags & O_NONBLOCK != 0 {
        if flags & O_ACCMODE == O_WRONLY {
            return Err(Errno::ENXIO.into());
        }
        return call.install(file, close_on_exec).map_err(Stop::from);
    }
    call.task.call_begun();
    state = call.task.call.get();
    if state.memo == 0 {
        state.memo = seen + 1;
    }
    call.task.call.set(state);
    *call.task.opening.borrow_mut() = Some(file);
    pipe.read_queue.join(call.task.waiter());
    pipe.write_queue.join(call.task.waiter());
    Err(WAIT)
}

fn open_device(call: &mut Call<'_>, node: &Rc<Node>, flags: u32) -> Result<Object, Errno> {
    let rdev = node.meta().rdev;
    match (node.file_type(), node::major(rdev), node::minor(rdev)) {
        (S_IFCHR, 5, 0) => {
            let terminal = call.task.process.terminal.borrow().clone().ok_or(Errno::ENXIO)?;
            Ok(Object::Terminal(terminal))
        }
        (S_IFCHR, 5, 1) => match call.system.session.console() {
            Some(terminal) => Ok(open_terminal(call, terminal, flags)),
            None => Err(Errno::ENXIO),
        },
        (S_IFCHR, 5, 2) => {
            let uid = call.task.credentials().users[1];
            Ok(Object::Master(call.system.terminals.create(uid, false)))
        }
        (S_IFCHR, 136, number) => {
            let terminal = call.system.terminals.get(number).ok_or(Errno::ENXIO)?;
            if terminal.locked.get() || terminal.is_hung_up() {
                return Err(Errno::EIO);
            }
            Ok(open_terminal(call, terminal, flags))
        }
        (S_IFCHR, major, minor)
            if crate::file::device::Memory::from_number(major, minor).is_some() =>
        {
            Ok(Object::Node)
        }
        _ => Err(Errno::ENXIO),
    }
}

/// A session's leader without a terminal gets the one it opens.
fn open_terminal(call: &Call<'_>, terminal: Rc<Terminal>, flags: u32) -> Object {
    let process = &call.task.process;
    let may_own = process.pid == process.session.get()
        && process.terminal.borrow().is_none()
        && terminal.session.get() == 0;
    if may_own && flags & O_NOCTTY == 0 {
        terminal.session.set(process.session.get());
        terminal.foreground.set(process.group.get());
        *process.terminal.borrow_mut() = Some(terminal.clone());
    }
    Object::Terminal(terminal)
}

pub(super) fn open(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let (flags, mode) = (call.argument(1) as u32, call.argument(2) as u32);
    open_at(call, AT_FDCWD, &path, flags, mode)
}

pub(super) fn openat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, flags, mode) = (call.int(0), call.argument(2) as u32, call.argument(3) as u32);
    open_at(call, fd, &path, flags, mode)
}

pub(super) fn openat2(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    if call.argument(3) < 24 {
        return Err(Errno::EINVAL.into());
    }
    let [flags, mode, resolve]: [u64; 3] = guest::read(call.argument(2))?;
    if resolve != 0 {
        crate::gap!(call.system, "openat2: resolve");
        return Err(Errno::EINVAL.into());
    }
    let fd = call.int(0);
    open_at(call, fd, &path, flags as u32, mode as u32)
}

pub(super) fn creat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let mode = call.argument(1) as u32;
    open_at(call, AT_FDCWD, &path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}
