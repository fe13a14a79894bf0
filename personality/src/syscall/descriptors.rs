//! Descriptors and the objects that only they name (close(2), dup(2), fcntl(2), ioctl(2), pipe(2), eventfd(2), ...).

use super::{Call, Outcome, time};
use crate::{
    file::{
        Kind, Node, Object, OpenFile,
        data::FileData,
        event::{EventCounter, Timer},
        locks::{Lock, Owner},
        pipe::Pipe,
    },
    linux::{
        Errno, FD_CLOEXEC, O_APPEND, O_CLOEXEC, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY,
        RLIMIT_NOFILE, S_IFREG,
        layouts::{Flock, Itimerspec},
    },
    machine::guest,
    system::time as clock,
};
use alloc::{rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

pub(super) fn close(call: &mut Call<'_>) -> Outcome {
    let file = call.task.files.borrow().borrow_mut().remove(call.int(0))?;
    release_process_locks(call, &file);
    Ok(0)
}

fn release_process_locks(call: &Call<'_>, file: &OpenFile) {
    if let Some(node) = &file.node {
        node.locks.release(Owner::Process(call.task.process.pid), 0, u64::MAX);
    }
}

pub(super) fn close_range(call: &mut Call<'_>) -> Outcome {
    let (first, last, flags) = (call.argument(0) as u32, call.argument(1) as u32, call.argument(2));
    if first > last || flags & !6 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & 2 != 0 {
        let own = Rc::new(RefCell::new(call.task.files().borrow().clone()));
        *call.task.files.borrow_mut() = own;
    }
    let files = call.task.files();
    let end =
        files.borrow().length().min(i32::try_from(last).unwrap_or(i32::MAX).saturating_add(1));
    for fd in i32::try_from(first).unwrap_or(i32::MAX)..end {
        if flags & 4 != 0 {
            let _ = files.borrow_mut().set_close_on_exec(fd, true);
        } else {
            let closed = files.borrow_mut().remove(fd);
            if let Ok(file) = closed {
                release_process_locks(call, &file);
            }
        }
    }
    Ok(0)
}

pub(super) fn dup(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    call.install(file, false).map_err(Into::into)
}

fn replace(call: &Call<'_>, close_on_exec: bool) -> Outcome {
    let file = call.file(0)?;
    let limit = call.task.process.limit(RLIMIT_NOFILE);
    let before =
        call.task.files.borrow().borrow_mut().replace(call.int(1), file, close_on_exec, limit)?;
    if let Some(before) = before {
        release_process_locks(call, &before);
    }
    Ok(call.argument(1) & 0xffff_ffff)
}

pub(super) fn dup2(call: &mut Call<'_>) -> Outcome {
    if call.int(0) == call.int(1) {
        call.file(0)?;
        return Ok(call.argument(0) & 0xffff_ffff);
    }
    replace(call, false)
}

pub(super) fn dup3(call: &mut Call<'_>) -> Outcome {
    if call.int(0) == call.int(1) || call.argument(2) & !u64::from(O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL.into());
    }
    replace(call, call.argument(2) != 0)
}

pub(super) fn fcntl(call: &mut Call<'_>) -> Outcome {
    const O_ASYNC: u32 = 0x2000;
    const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | O_DIRECT;
    let file = call.file(0)?;
    let argument = call.argument(2);
    let limit = call.task.process.limit(RLIMIT_NOFILE);
    match call.argument(1) {
        // F_DUPFD, F_DUPFD_CLOEXEC.
        command @ (0 | 1030) => {
            if argument >= limit {
                return Err(Errno::EINVAL.into());
            }
            let fd = call.task.files.borrow().borrow_mut().insert(
                file,
                command == 1030,
                argument as usize,
                limit,
            )?;
            Ok(fd as u64)
        }
        1 => Ok(u64::from(call.task.files.borrow().borrow().close_on_exec(call.int(0))?)),
        2 => {
            call.task
                .files
                .borrow()
                .borrow_mut()
                .set_close_on_exec(call.int(0), argument & FD_CLOEXEC != 0)?;
            Ok(0)
        }
        3 => Ok(u64::from(file.flags())),
        4 => {
            if argument as u32 & O_ASYNC != 0 {
                crate::gap!(call.system, "fcntl: signal-driven input");
            }
            file.set_flags(file.flags() & !CHANGEABLE | argument as u32 & CHANGEABLE);
            Ok(0)
        }
        // F_GETLK, F_SETLK, F_SETLKW and their OFD forms.
        5 | 36 => query_lock(call, &file),
        command @ (6 | 7 | 37 | 38) => set_lock(call, &file, command),
        // F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG: signals on input are not sent, so there is neither an owner nor a signal.
        8 | 10 => {
            crate::gap!(call.system, "fcntl: signal-driven input");
            Err(Errno::EINVAL.into())
        }
        9 | 11 => Ok(0),
        1031 => match &file.object {
            Object::Pipe(pipe) => Ok(pipe.set_capacity(argument as usize)? as u64),
            _ => Err(Errno::EBADF.into()),
        },
        1032 => match &file.object {
            Object::Pipe(pipe) => Ok(pipe.capacity() as u64),
            _ => Err(Errno::EBADF.into()),
        },
        // F_NOTIFY: without an event (but DN_MULTISHOT) it ends a watch, and there is none.
        1026 if argument & 0x7fff_ffff == 0 => Ok(0),
        1026 => {
            crate::gap!(call.system, "fcntl: F_NOTIFY");
            Err(Errno::EINVAL.into())
        }
        // F_ADD_SEALS, F_GET_SEALS.
        1033 => {
            let data = file.data()?;
            if data.seals.get() & 1 != 0 {
                return Err(Errno::EPERM.into());
            }
            data.seals.set(data.seals.get() | argument as u32 & 0x1f);
            Ok(0)
        }
        1034 => Ok(file.data()?.seals.get().into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Reads a `struct flock` as a range.
fn lock_range(call: &Call<'_>, file: &OpenFile) -> Result<(Flock, u64, u64), Errno> {
    let wanted: Flock = guest::read(call.argument(2))?;
    let base = match wanted.whence {
        0 => 0,
        1 => file.offset.get() as i64,
        2 => file.node.as_ref().map_or(0, |node| node.size()) as i64,
        _ => return Err(Errno::EINVAL),
    };
    let mut start = base.checked_add(wanted.start).ok_or(Errno::EOVERFLOW)?;
    let mut end = if wanted.length == 0 {
        i64::MAX
    } else {
        start.checked_add(wanted.length - 1).ok_or(Errno::EOVERFLOW)?
    };
    if wanted.length < 0 {
        (start, end) = (start + wanted.length, start - 1);
    }
    if start < 0 || end < start {
        return Err(Errno::EINVAL);
    }
    let last = if end == i64::MAX { u64::MAX } else { end as u64 };
    Ok((wanted, start as u64, last))
}

fn lock_owner(call: &Call<'_>, file: &OpenFile) -> Owner {
    if call.argument(1) >= 36 {
        Owner::Description(file.id, true)
    } else {
        Owner::Process(call.task.process.pid)
    }
}

fn query_lock(call: &mut Call<'_>, file: &Rc<OpenFile>) -> Outcome {
    let node = file.node.as_ref().ok_or(Errno::EBADF)?;
    let (mut out, start, last) = lock_range(call, file)?;
    let wanted = Lock { owner: lock_owner(call, file), is_write: out.kind == 1, start, last };
    match node.locks.conflict(&wanted) {
        None => out.kind = 2,
        Some(found) => {
            out.kind = i16::from(found.is_write);
            out.whence = 0;
            out.start = found.start as i64;
            out.length =
                if found.last == u64::MAX { 0 } else { (found.last - found.start + 1) as i64 };
            out.pid = if let Owner::Process(pid) = found.owner { pid } else { -1 };
        }
    }
    guest::write(call.argument(2), &out)?;
    Ok(0)
}

fn set_lock(call: &mut Call<'_>, file: &Rc<OpenFile>, command: u64) -> Outcome {
    let node = file.node.as_ref().ok_or(Errno::EBADF)?;
    let (wanted, start, last) = lock_range(call, file)?;
    let owner = lock_owner(call, file);
    match wanted.kind {
        0 if !file.reads() => return Err(Errno::EBADF.into()),
        1 if !file.writes() => return Err(Errno::EBADF.into()),
        0 | 1 => {
            let lock = Lock { owner, is_write: wanted.kind == 1, start, last };
            node.locks.take(lock, command == 7 || command == 38, call.task.waiter())?;
        }
        2 => node.locks.release(owner, start, last),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

pub(super) fn flock(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let node = file.node.as_ref().ok_or(Errno::EBADF)?;
    let owner = Owner::Description(file.id, false);
    let operation = call.argument(1);
    match operation & !4 {
        kind @ (1 | 2) => {
            let lock = Lock { owner, is_write: kind == 2, start: 0, last: u64::MAX };
            node.locks.take(lock, operation & 4 == 0, call.task.waiter())?;
        }
        8 => node.locks.release(owner, 0, u64::MAX),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn make_pipe(call: &mut Call<'_>, flags: u32) -> Outcome {
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & O_DIRECT != 0 {
        crate::gap!(call.system, "pipe2: packets");
        return Err(Errno::EINVAL.into());
    }
    let pipe = Rc::new(Pipe::new());
    let credentials = call.task.credentials();
    let (uid, gid) = (credentials.users[3], credentials.groups[3]);
    let node = Node::unnamed_pipe(Kind::Fifo(pipe.clone()), uid, gid);
    let end = |access| {
        let object = Object::Pipe(pipe.clone());
        OpenFile::new(object, Some(node.clone()), access | flags & O_NONBLOCK, Vec::new())
    };
    let (reader, writer) = (end(O_RDONLY), end(O_WRONLY));
    let close_on_exec = flags & O_CLOEXEC != 0;
    let first = call.install(reader, close_on_exec)?;
    let second = call.install(writer, close_on_exec).inspect_err(|_| {
        let _ = call.task.files.borrow().borrow_mut().remove(first as i32);
    })?;
    let written = guest::write(call.argument(0), &[first as i32, second as i32]);
    if let Err(errno) = written {
        for fd in [first, second] {
            let _ = call.task.files.borrow().borrow_mut().remove(fd as i32);
        }
        return Err(errno.into());
    }
    Ok(0)
}

pub(super) fn pipe(call: &mut Call<'_>) -> Outcome {
    make_pipe(call, 0)
}

pub(super) fn pipe2(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(1) as u32;
    make_pipe(call, flags)
}

fn install_object(call: &Call<'_>, object: Object, flags: u32, name: &[u8]) -> Outcome {
    let file = OpenFile::new(object, None, O_RDWR | flags & O_NONBLOCK, name.to_vec());
    call.install(file, flags & O_CLOEXEC != 0).map_err(Into::into)
}

pub(super) fn eventfd(call: &mut Call<'_>) -> Outcome {
    install_object(
        call,
        Object::Event(EventCounter::new(call.argument(0) & 0xffff_ffff, false)),
        0,
        b"anon_inode:[eventfd]",
    )
}

pub(super) fn eventfd2(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(1) as u32;
    if flags & !(1 | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let counter = EventCounter::new(call.argument(0) & 0xffff_ffff, flags & 1 != 0);
    install_object(call, Object::Event(counter), flags, b"anon_inode:[eventfd]")
}

pub(super) fn memfd_create(call: &mut Call<'_>) -> Outcome {
    let name = guest::read_string(call.argument(0), 249)
        .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::EINVAL } else { errno })?;
    let flags = call.argument(1);
    if flags & !0x1f != 0 {
        return Err(Errno::EINVAL.into());
    }
    let data = FileData::new();
    data.seals.set(if flags & 2 != 0 { 0 } else { 1 });
    let node = Node::new(
        Kind::File(data),
        S_IFREG | 0o777,
        call.task.credentials().users[3],
        call.task.credentials().groups[3],
        0,
        0xf,
    );
    node.change(|meta| meta.nlink = 0);
    let path = [b"/memfd:", name.as_slice()].concat();
    let file = OpenFile::new(Object::Node, Some(node), O_RDWR, path);
    call.install(file, flags & 1 != 0).map_err(Into::into)
}

fn make_signalfd(call: &mut Call<'_>, flags: u32) -> Outcome {
    if call.argument(2) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let mask: u64 = guest::read(call.argument(1))?;
    if call.int(0) == -1 {
        return install_object(
            call,
            Object::Signal(Cell::new(mask)),
            flags,
            b"anon_inode:[signalfd]",
        );
    }
    match &call.file(0)?.object {
        Object::Signal(place) => {
            place.set(mask);
            Ok(call.argument(0) & 0xffff_ffff)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn signalfd(call: &mut Call<'_>) -> Outcome {
    make_signalfd(call, 0)
}

pub(super) fn signalfd4(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(3) as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    make_signalfd(call, flags)
}

pub(super) fn timerfd_create(call: &mut Call<'_>) -> Outcome {
    let (id, flags) = (call.argument(0), call.argument(1) as u32);
    if !matches!(id, 0 | 1 | 7 | 8 | 9) || flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    install_object(call, Object::Timer(Timer::new(id)), flags, b"anon_inode:[timerfd]")
}

fn timer_value(timer: &Timer) -> Itimerspec {
    let (left, interval) = timer.left();
    Itimerspec {
        interval: clock::timespec(rt::clock::nanoseconds_asked(interval)),
        value: clock::timespec(rt::clock::nanoseconds(left)),
    }
}

pub(super) fn timerfd_settime(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let Object::Timer(timer) = &file.object else { return Err(Errno::EINVAL.into()) };
    let new: Itimerspec = guest::read(call.argument(2))?;
    let (value, interval) = (time::duration(&new.value)?, time::duration(&new.interval)?);
    if call.argument(1) & !3 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if call.argument(3) != 0 {
        guest::write(call.argument(3), &timer_value(timer))?;
    }
    let next = if value == 0 {
        0
    } else if call.argument(1) & 1 != 0 {
        time::deadline_at(timer.clock, value)
    } else {
        rt::clock::now().saturating_add(rt::clock::ticks(value))
    };
    timer.set(next, rt::clock::ticks(interval));
    Ok(0)
}

pub(super) fn timerfd_gettime(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let Object::Timer(timer) = &file.object else { return Err(Errno::EINVAL.into()) };
    guest::write(call.argument(1), &timer_value(timer))?;
    Ok(0)
}
