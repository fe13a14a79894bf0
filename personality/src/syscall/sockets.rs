//! Sockets (socket(2), unix(7)). Other families than unix are refused and counted.

use super::{Call, Outcome, read_vectors};
use crate::{
    file::{
        Kind, Node, Object, OpenFile,
        open::identity_of,
        socket::{MAX_FILES, Socket, Style},
    },
    linux::{AT_FDCWD, Errno, O_CLOEXEC, O_NONBLOCK, O_RDWR, S_IFSOCK, SIGPIPE},
    machine::guest::{self, Sink, Source},
    wait::Stop,
};
use alloc::{rc::Rc, vec::Vec};
use core::cell::RefCell;

const AF_UNIX: u16 = 1;
const MSG_PEEK: u64 = 2;
const MSG_TRUNC: u64 = 0x20;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_NOSIGNAL: u64 = 0x4000;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const MSG_CTRUNC: u32 = 8;
const SOL_SOCKET: u64 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;

fn style_of(kind: u64) -> Result<Style, Errno> {
    match kind & 0xf {
        1 => Ok(Style::Stream),
        2 => Ok(Style::Datagram),
        5 => Ok(Style::Packet),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn flags_of(kind: u64) -> u32 {
    kind as u32 & (O_CLOEXEC | O_NONBLOCK)
}

fn install(call: &Call<'_>, socket: Rc<Socket>, flags: u32) -> Result<u64, Errno> {
    let file = OpenFile::new(
        Object::Socket(socket),
        None,
        O_RDWR | flags & O_NONBLOCK,
        b"socket:".to_vec(),
    );
    call.install(file, flags & O_CLOEXEC != 0)
}

pub(super) fn socket(call: &mut Call<'_>) -> Outcome {
    let (family, kind) = (call.argument(0), call.argument(1));
    if family != u64::from(AF_UNIX) {
        crate::gap!(call.system, "socket: families other than AF_UNIX");
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let socket = Socket::new(style_of(kind)?);
    install(call, socket, flags_of(kind)).map_err(Into::into)
}

pub(super) fn socketpair(call: &mut Call<'_>) -> Outcome {
    if call.argument(0) != u64::from(AF_UNIX) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let style = style_of(call.argument(1))?;
    let flags = flags_of(call.argument(1));
    let (one, other) = (Socket::new(style), Socket::new(style));
    Socket::pair(&one, &other, identity_of(&call.task.process));
    // Each file keeps its own end; the ends know each other weakly.
    let first = install(call, one, flags)?;
    let second = install(call, other, flags)?;
    guest::write(call.argument(3), &[first as i32, second as i32])?;
    Ok(0)
}

fn own(call: &Call<'_>, index: usize) -> Result<(Rc<Socket>, Rc<OpenFile>), Errno> {
    let file = call.file(index)?;
    match &file.object {
        Object::Socket(socket) => Ok((socket.clone(), file)),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// Reads a unix address: the bytes after the family.
fn address(at: u64, length: u64) -> Result<Vec<u8>, Errno> {
    if !(2..=110).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; length as usize];
    guest::read_bytes(at, &mut bytes)?;
    if bytes.get(..2) != Some(&AF_UNIX.to_le_bytes()) {
        return Err(Errno::EAFNOSUPPORT);
    }
    bytes.drain(..2);
    if bytes.first().is_some_and(|byte| *byte != 0) {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
    }
    Ok(bytes)
}

/// The socket that an address names.
fn find(call: &Call<'_>, name: &[u8]) -> Result<Rc<Socket>, Errno> {
    if name.first() == Some(&0) {
        return call.system.sockets.find(name).ok_or(Errno::ECONNREFUSED);
    }
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    let node = call.at(AT_FDCWD, name, |walker| {
        let node = walker.find(name, true)?;
        walker.check(&node.meta(), 2)?;
        Ok(node)
    })?;
    match &node.kind {
        Kind::Socket(socket) => socket.borrow().upgrade().ok_or(Errno::ECONNREFUSED),
        _ => Err(Errno::ECONNREFUSED),
    }
}

pub(super) fn bind(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let name = address(call.argument(1), call.argument(2))?;
    if !socket.name.borrow().is_empty() {
        return Err(Errno::EINVAL.into());
    }
    if name.is_empty() {
        let (random, _) = crate::file::device::random();
        let name = alloc::format!("\0{:05x}", random & 0xf_ffff).into_bytes();
        call.system.sockets.bind(&name, &socket)?;
        *socket.name.borrow_mut() = name;
        return Ok(0);
    }
    if name.first() == Some(&0) {
        call.system.sockets.bind(&name, &socket)?;
    } else {
        let credentials = call.task.credentials();
        let mode = S_IFSOCK | (0o777 & !call.task.place().mask.get());
        call.at(AT_FDCWD, &name, |walker| {
            let found = walker.walk(&name, false)?;
            if found.node.is_some() {
                return Err(Errno::EADDRINUSE);
            }
            walker.check_change(&found.directory, None)?;
            let kind = Kind::Socket(RefCell::new(Rc::downgrade(&socket)));
            let node = Node::new(
                kind,
                mode,
                credentials.users[3],
                credentials.groups[3],
                0,
                found.directory.device,
            );
            found.directory.link(&found.name, node)
        })?;
    }
    *socket.name.borrow_mut() = name;
    Ok(0)
}

pub(super) fn listen(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    socket.listen(call.argument(1).min(4096) as usize)?;
    socket.peer_identity.set(identity_of(&call.task.process));
    Ok(0)
}

pub(super) fn connect(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let name = address(call.argument(1), call.argument(2))?;
    let target = find(call, &name)?;
    let identity = identity_of(&call.task.process);
    socket.connect(&target, identity, file.flags() & O_NONBLOCK != 0, call.task.waiter())?;
    Ok(0)
}

fn write_address(name: &[u8], at: u64, length_at: u64) -> Result<(), Errno> {
    if at == 0 {
        return Ok(());
    }
    let room: u32 = guest::read(length_at)?;
    let mut bytes = AF_UNIX.to_le_bytes().to_vec();
    bytes.extend_from_slice(name);
    if name.first().is_some_and(|byte| *byte != 0) {
        bytes.push(0);
    }
    let count = bytes.len().min(room as usize);
    guest::write_bytes(at, bytes.get(..count).unwrap_or_default())?;
    guest::write(length_at, &(bytes.len() as u32))
}

fn accept_with(call: &mut Call<'_>, flags: u32) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let accepted = socket.accept(file.flags() & O_NONBLOCK != 0, call.task.waiter())?;
    let name = accepted.peer().map_or_else(Vec::new, |peer| peer.name.borrow().clone());
    write_address(&name, call.argument(1), call.argument(2))?;
    install(call, accepted, flags).map_err(Into::into)
}

pub(super) fn accept(call: &mut Call<'_>) -> Outcome {
    accept_with(call, 0)
}

pub(super) fn accept4(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(3) as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    accept_with(call, flags)
}

pub(super) fn shutdown(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    socket.shutdown(call.argument(1))?;
    Ok(0)
}

pub(super) fn getsockname(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let name = socket.name.borrow().clone();
    write_address(&name, call.argument(1), call.argument(2))?;
    Ok(0)
}

pub(super) fn getpeername(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let peer = socket.peer().ok_or(Errno::ENOTCONN)?;
    let name = peer.name.borrow().clone();
    write_address(&name, call.argument(1), call.argument(2))?;
    Ok(0)
}

fn send(
    call: &mut Call<'_>,
    pieces: &[(u64, u64)],
    flags: u64,
    name: Option<Vec<u8>>,
    files: &[Rc<OpenFile>],
) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let target = match name {
        Some(_) if socket.style != Style::Datagram => None,
        Some(name) => Some(find(call, &name)?),
        None => None,
    };
    let identity = identity_of(&call.task.process);
    let non_blocking = flags & MSG_DONTWAIT != 0 || file.flags() & O_NONBLOCK != 0;
    let mut state = call.task.call.get();
    let total: u64 = pieces.iter().map(|(_, length)| *length).sum();
    loop {
        let mut skip = state.progress as u64;
        let rest: Vec<(u64, u64)> = pieces
            .iter()
            .map(|(base, length)| {
                let skipped = skip.min(*length);
                skip -= skipped;
                (base + skipped, length - skipped)
            })
            .collect();
        let first = state.progress == 0;
        let attached = if first { files } else { &[] };
        match socket.send(
            &mut Source::pieces(&rest),
            attached,
            target.clone(),
            identity,
            non_blocking,
            call.task.waiter(),
        ) {
            Ok(count) => {
                state.progress += count;
                if state.progress as u64 >= total
                    || socket.style != Style::Stream
                    || non_blocking
                    || count == 0
                {
                    return Ok(state.progress as u64);
                }
                call.task.call.set(state);
            }
            Err(Stop::Errno(_)) if state.progress > 0 => return Ok(state.progress as u64),
            Err(stop) => {
                if stop == Stop::Errno(Errno::EPIPE) && flags & MSG_NOSIGNAL == 0 {
                    call.signal_self(SIGPIPE);
                }
                return Err(stop);
            }
        }
    }
}

pub(super) fn sendto(call: &mut Call<'_>) -> Outcome {
    let name = if call.argument(4) == 0 {
        None
    } else {
        Some(address(call.argument(4), call.argument(5))?)
    };
    let (base, length, flags) = (call.argument(1), call.argument(2), call.argument(3));
    send(call, &[(base, length)], flags, name, &[])
}

pub(super) fn sendmsg(call: &mut Call<'_>) -> Outcome {
    let header: [u64; 7] = guest::read(call.argument(1))?;
    let [name, name_length, vectors, count, control, control_length, _] = header;
    let pieces = read_vectors(vectors, count)?;
    let name = if name == 0 { None } else { Some(address(name, name_length & 0xffff_ffff)?) };
    let files = read_control(call, control, control_length)?;
    let flags = call.argument(2);
    send(call, &pieces, flags, name, &files)
}

/// The files of SCM_RIGHTS messages.
fn read_control(call: &Call<'_>, at: u64, length: u64) -> Result<Vec<Rc<OpenFile>>, Errno> {
    let mut files = Vec::new();
    let mut offset = 0;
    while at != 0 && offset + 16 <= length {
        let size: u64 = guest::read(at + offset)?;
        let [level, kind]: [u32; 2] = guest::read(at + offset + 8)?;
        if size < 16 || offset + size > length {
            return Err(Errno::EINVAL);
        }
        if u64::from(level) == SOL_SOCKET && kind == SCM_RIGHTS {
            for index in 0..(size - 16) / 4 {
                let fd: i32 = guest::read(at + offset + 16 + 4 * index)?;
                files.push(call.file_of(fd)?);
            }
            if files.len() > MAX_FILES {
                return Err(Errno::EINVAL);
            }
        }
        offset += size.next_multiple_of(8);
    }
    Ok(files)
}

pub(super) fn recvfrom(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let flags = call.argument(3);
    let non_blocking = flags & MSG_DONTWAIT != 0 || file.flags() & O_NONBLOCK != 0;
    let mut sink = Sink::guest(call.argument(1), call.argument(2).min(0x7fff_f000) as usize);
    let received =
        socket.receive(&mut sink, flags & MSG_PEEK != 0, non_blocking, call.task.waiter())?;
    if call.argument(4) != 0 {
        write_address(&received.sender, call.argument(4), call.argument(5))?;
    }
    Ok(if flags & MSG_TRUNC != 0 && socket.style != Style::Stream {
        received.whole
    } else {
        received.count
    } as u64)
}

pub(super) fn recvmsg(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let flags = call.argument(2);
    let at = call.argument(1);
    let [name, name_length, vectors, count, control, control_length, _]: [u64; 7] =
        guest::read(at)?;
    let pieces = read_vectors(vectors, count)?;
    let non_blocking = flags & MSG_DONTWAIT != 0 || file.flags() & O_NONBLOCK != 0;
    let mut sink = Sink::pieces(&pieces);
    let received =
        socket.receive(&mut sink, flags & MSG_PEEK != 0, non_blocking, call.task.waiter())?;
    let mut out_flags = if received.whole > received.count && socket.style != Style::Stream {
        MSG_TRUNC as u32
    } else {
        0
    };
    let mut used = 0;
    if socket.passes_identity.get() && control_length >= 32 {
        let (pid, uid, gid) = received.identity;
        guest::write(control, &28_u64)?;
        guest::write(
            control + 8,
            &[SOL_SOCKET as u32, SCM_CREDENTIALS, pid.cast_unsigned(), uid, gid],
        )?;
        used = 32;
    }
    if !received.files.is_empty() {
        let room = control_length.saturating_sub(used + 16) / 4;
        let mut fds = Vec::new();
        for file in received.files.iter().take(room as usize) {
            match call.install(file.clone(), flags & MSG_CMSG_CLOEXEC != 0) {
                Ok(fd) => fds.push(fd as i32),
                Err(_) => break,
            }
        }
        if fds.len() < received.files.len() {
            out_flags |= MSG_CTRUNC;
        }
        if !fds.is_empty() {
            let size = 16 + 4 * fds.len() as u64;
            guest::write(control + used, &size)?;
            guest::write(control + used + 8, &[SOL_SOCKET as u32, SCM_RIGHTS])?;
            guest::write_bytes(control + used + 16, zerocopy::IntoBytes::as_bytes(fds.as_slice()))?;
            used += size.next_multiple_of(8).min(control_length - used);
        }
    }
    if name != 0 {
        let mut bytes = AF_UNIX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&received.sender);
        let is_named = !received.sender.is_empty();
        let count =
            if is_named { bytes.len().min((name_length & 0xffff_ffff) as usize) } else { 0 };
        guest::write_bytes(name, bytes.get(..count).unwrap_or_default())?;
        guest::write(at + 8, &(count as u32))?;
    }
    guest::write(at + 40, &used)?;
    guest::write(at + 48, &out_flags)?;
    Ok(received.count as u64)
}

pub(super) fn setsockopt(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    if call.argument(1) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if call.argument(4) < 4 {
        return Err(Errno::EINVAL.into());
    }
    let value: u32 = guest::read(call.argument(3))?;
    match call.argument(2) {
        // SO_PASSCRED.
        16 => socket.passes_identity.set(value != 0),
        // SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_LINGER, SO_SNDBUFFORCE, SO_RCVBUFFORCE: nothing of them shows between processes.
        2 | 7 | 8 | 9 | 13 | 32 | 33 => {}
        _ => {
            crate::gap!(call.system, "setsockopt");
            return Err(Errno::ENOPROTOOPT.into());
        }
    }
    Ok(0)
}

pub(super) fn getsockopt(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    if call.argument(1) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let room: u32 = guest::read(call.argument(4))?;
    let (pid, uid, gid) = socket.peer_identity.get();
    let words: Vec<u32> = match call.argument(2) {
        3 => alloc::vec![match socket.style {
            Style::Stream => 1,
            Style::Datagram => 2,
            Style::Packet => 5,
        }],
        4 => alloc::vec![0],
        7 | 8 => alloc::vec![212_992],
        16 => alloc::vec![u32::from(socket.passes_identity.get())],
        17 => alloc::vec![pid.cast_unsigned(), uid, gid],
        30 => alloc::vec![u32::from(socket.is_listening())],
        38 => alloc::vec![0],
        39 => alloc::vec![u32::from(AF_UNIX)],
        2 | 9 => alloc::vec![0],
        _ => {
            crate::gap!(call.system, "getsockopt");
            return Err(Errno::ENOPROTOOPT.into());
        }
    };
    let bytes = zerocopy::IntoBytes::as_bytes(words.as_slice());
    let count = bytes.len().min(room as usize);
    guest::write_bytes(call.argument(3), bytes.get(..count).unwrap_or_default())?;
    guest::write(call.argument(4), &(count as u32))?;
    Ok(0)
}
