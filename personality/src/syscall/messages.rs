//! Messages of sockets (send(2), recv(2), cmsg(3)).

use super::{
    Call, Outcome, read_vectors,
    sockets::{find, manner, own, read_address, write_address},
};
use crate::{
    file::{OpenFile, open::identity_of},
    linux::{Errno, RLIMIT_NOFILE, SIGPIPE},
    machine::guest::{self, Sink, Source},
    net::{
        Family, Identity, Outgoing, Socket, Style,
        ancillary::{self, Writer},
        garbage::MAX_FILES,
        inbox::Received,
        options,
    },
    wait::Stop,
};
use alloc::{rc::Rc, vec::Vec};

const MSG_OOB: u64 = 1;
const MSG_PEEK: u64 = 2;
const MSG_TRUNC: u64 = 0x20;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_EOR: u64 = 0x80;
const MSG_WAITALL: u64 = 0x100;
const MSG_ERRQUEUE: u64 = 0x2000;
const MSG_NOSIGNAL: u64 = 0x4000;
const MSG_WAITFORONE: u64 = 0x1_0000;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
/// Most messages of sendmmsg(2) and recvmmsg(2).
const MAX_MESSAGES: u64 = 1024;
/// Bytes of a `struct mmsghdr`, and where its length is.
const MMSGHDR: u64 = 64;
const MMSGHDR_LENGTH: u64 = 56;
/// Longest transfer.
const MAX_TRANSFER: u64 = 0x7fff_f000;

/// Where the bytes of a call are.
enum Place {
    One(u64, usize),
    Many(Vec<(u64, u64)>),
}

impl Place {
    fn rest(pieces: &[(u64, u64)], skip: usize) -> Vec<(u64, u64)> {
        let mut skip = skip as u64;
        pieces
            .iter()
            .map(|(base, length)| {
                let skipped = skip.min(*length);
                skip -= skipped;
                (base.wrapping_add(skipped), length - skipped)
            })
            .collect()
    }
    fn length(&self) -> usize {
        match self {
            Self::One(_, length) => *length,
            Self::Many(pieces) => pieces.iter().map(|(_, length)| *length as usize).sum(),
        }
    }
    fn source(&self, skip: usize) -> Source<'static> {
        match self {
            Self::One(at, length) => {
                Source::guest(at.wrapping_add(skip as u64), length.saturating_sub(skip))
            }
            Self::Many(pieces) if skip == 0 => Source::pieces(pieces),
            Self::Many(pieces) => Source::pieces(&Self::rest(pieces, skip)),
        }
    }
    fn sink(&self, skip: usize) -> Sink<'static> {
        match self {
            Self::One(at, length) => {
                Sink::guest(at.wrapping_add(skip as u64), length.saturating_sub(skip))
            }
            Self::Many(pieces) if skip == 0 => Sink::pieces(pieces),
            Self::Many(pieces) => Sink::pieces(&Self::rest(pieces, skip)),
        }
    }
}

/// A `struct msghdr`.
struct Header {
    at: u64,
    name: u64,
    name_room: u64,
    place: Place,
    control: u64,
    control_room: u64,
}

fn read_header(at: u64) -> Result<Header, Errno> {
    let [name, name_room, vectors, count, control, control_room, _]: [u64; 7] = guest::read(at)?;
    if count > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    let place = if count == 1 {
        let [base, length]: [u64; 2] = guest::read(vectors)?;
        if length > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Place::One(base, length.min(MAX_TRANSFER) as usize)
    } else {
        Place::Many(read_vectors(vectors, count)?)
    };
    let name_room = name_room & 0xffff_ffff;
    if name_room > i32::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(Header { at, name, name_room, place, control, control_room })
}

/// What every message of the caller carries.
fn outgoing(call: &Call<'_>) -> Outgoing {
    Outgoing {
        identity: identity_of(&call.task.process),
        file_limit: call.task.process.limit(RLIMIT_NOFILE),
        ..Outgoing::default()
    }
}

/// Sends as long as it takes; a stream's progress outlives a wait.
fn send(
    call: &mut Call<'_>,
    socket: &Rc<Socket>,
    file: &OpenFile,
    place: &Place,
    flags: u64,
    mut out: Outgoing,
) -> Outcome {
    if flags & MSG_OOB != 0 {
        if socket.is_tcp() {
            crate::gap!(call.system, "send: MSG_OOB");
        }
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut how = manner(call, file);
    how.non_blocking |= flags & MSG_DONTWAIT != 0;
    let total = place.length();
    let mut state = call.task.call.get();
    if state.progress > 0 {
        // What came with the message went with its first bytes.
        out.files.clear();
    }
    loop {
        let mut source = place.source(state.progress);
        match socket.send(&mut source, &mut out, how) {
            Ok(count) => {
                state.progress += count;
                let is_done = state.progress >= total || count == 0;
                if is_done || !socket.is_stream() || how.non_blocking {
                    return Ok(state.progress as u64);
                }
                state.begun = call.task.call.get().begun;
                call.task.call.set(state);
            }
            Err(Stop::Errno(_)) if state.progress > 0 => return Ok(state.progress as u64),
            Err(stop) => {
                let is_broken = stop == Stop::Errno(Errno::EPIPE) && socket.is_stream();
                if is_broken && flags & MSG_NOSIGNAL == 0 {
                    call.signal_self(SIGPIPE);
                }
                return Err(stop);
            }
        }
    }
}

/// Notes where a message goes. A connected stream has no choice.
fn address(
    call: &Call<'_>,
    socket: &Rc<Socket>,
    name: (u64, u64),
    out: &mut Outgoing,
) -> Result<(), Errno> {
    if name.0 == 0 || name.1 == 0 {
        return Ok(());
    }
    let address = read_address(socket, name.0, name.1)?;
    match (socket.family, socket.style) {
        (Family::Unix, Style::Datagram) => out.target = Some(find(call, &address)?),
        (Family::Unix, _) => {
            let is_connected = socket.peer().is_some();
            return Err(if is_connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        // AF_UNSPEC is taken for the peer.
        (_, Style::Datagram) if !address.is_none() => out.to = Some(address),
        _ => {}
    }
    Ok(())
}

pub(super) fn sendto(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let length = call.argument(2).min(MAX_TRANSFER) as usize;
    let mut out = outgoing(call);
    address(call, &socket, (call.argument(4), call.argument(5)), &mut out)?;
    let place = Place::One(call.argument(1), length);
    send(call, &socket, &file, &place, call.argument(3), out)
}

fn send_message(
    call: &mut Call<'_>,
    socket: &Rc<Socket>,
    file: &OpenFile,
    at: u64,
    flags: u64,
) -> Outcome {
    let header = read_header(at)?;
    let mut out = outgoing(call);
    address(call, socket, (header.name, header.name_room), &mut out)?;
    if header.control != 0 && header.control_room > 0 {
        read_control(call, socket, &header, &mut out)?;
    }
    send(call, socket, file, &header.place, flags & !MSG_EOR, out)
}

pub(super) fn sendmsg(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    send_message(call, &socket, &file, call.argument(1), call.argument(2))
}

/// Reads the control messages of a message.
fn read_control(
    call: &Call<'_>,
    socket: &Socket,
    header: &Header,
    out: &mut Outgoing,
) -> Result<(), Errno> {
    if header.control_room > ancillary::MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut control = alloc::vec![0; header.control_room as usize];
    guest::read_bytes(header.control, &mut control)?;
    ancillary::each(&control, |level, kind, data| {
        match (u64::from(level), kind) {
            (options::SOCKET, ancillary::RIGHTS) if socket.family == Family::Unix => {
                for fd in data.as_chunks::<4>().0 {
                    if out.files.len() >= MAX_FILES {
                        return Err(Errno::EINVAL);
                    }
                    out.files.push(call.file_of(i32::from_le_bytes(*fd))?);
                }
            }
            (options::SOCKET, ancillary::CREDENTIALS) if socket.family == Family::Unix => {
                out.identity = read_identity(call, data)?;
            }
            (options::SOCKET, _) => return Err(Errno::EINVAL),
            (options::IP, 1 | 2) | (options::IPV6, 52 | 67) => {
                let value = number(data)?;
                let place = if matches!(kind, 2 | 52) { &mut out.ttl } else { &mut out.tos };
                // -1 is the socket's own.
                *place = if value == -1 {
                    None
                } else {
                    Some(u8::try_from(value).map_err(|_| Errno::EINVAL)?)
                };
            }
            // The interface and source address can only be what they are.
            (options::IP, 8) | (options::IPV6, 50) => {}
            (options::IP | options::IPV6, _) => return Err(Errno::EINVAL),
            _ => {}
        }
        Ok(())
    })
}

fn number(data: &[u8]) -> Result<i32, Errno> {
    match (data.first_chunk(), data.first()) {
        (Some(bytes), _) => Ok(i32::from_le_bytes(*bytes)),
        (None, Some(byte)) => Ok(i32::from(*byte)),
        _ => Err(Errno::EINVAL),
    }
}

/// SCM_CREDENTIALS: who the sender says it is, which it must be, or be root.
fn read_identity(call: &Call<'_>, data: &[u8]) -> Result<Identity, Errno> {
    let words: &[u8; 12] = data.first_chunk().filter(|_| data.len() == 12).ok_or(Errno::EINVAL)?;
    let word = |at: usize| {
        let bytes = words.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let (pid, uid, gid) = (word(0).cast_signed(), word(4), word(8));
    let credentials = call.task.credentials();
    let is_root = credentials.users[1] == 0;
    let is_own = pid == call.task.process.pid
        && credentials.users.contains(&uid)
        && credentials.groups.contains(&gid);
    if is_root && call.system.processes.get(pid).is_none() {
        return Err(Errno::ESRCH);
    }
    if is_own || is_root { Ok((pid, uid, gid)) } else { Err(Errno::EPERM) }
}

/// Receives; MSG_WAITALL goes on until everything is there.
fn receive(
    call: &mut Call<'_>,
    socket: &Rc<Socket>,
    file: &OpenFile,
    place: &Place,
    flags: u64,
) -> Result<Received, Stop> {
    if flags & MSG_ERRQUEUE != 0 {
        // Errors are told as SO_ERROR; none is ever queued.
        crate::gap!(call.system, "receive: MSG_ERRQUEUE");
        return Err(Errno::EAGAIN.into());
    }
    if flags & MSG_OOB != 0 {
        if !socket.is_tcp() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        crate::gap!(call.system, "receive: MSG_OOB");
        return Err(Errno::EINVAL.into());
    }
    let mut how = manner(call, file);
    how.non_blocking |= flags & MSG_DONTWAIT != 0;
    let peek = flags & MSG_PEEK != 0;
    let gathers = flags & MSG_WAITALL != 0 && socket.is_stream();
    if !gathers {
        return socket.receive(&mut place.sink(0), 0, peek, how);
    }
    let total = place.length();
    let mut state = call.task.call.get();
    let mut all = Received { count: state.progress, whole: state.progress, ..Received::default() };
    loop {
        let skip = if peek { all.count } else { 0 };
        match socket.receive(&mut place.sink(all.count), skip, peek, how) {
            Ok(more) => {
                all.count += more.count;
                all.whole = all.count;
                all.identity = more.identity;
                all.files.extend(more.files);
                if all.count >= total || more.count == 0 || !all.files.is_empty() {
                    return Ok(all);
                }
                if !peek {
                    state.progress = all.count;
                    state.begun = call.task.call.get().begun;
                    call.task.call.set(state);
                }
            }
            Err(Stop::Errno(_)) if all.count > 0 => return Ok(all),
            // What was peeked is looked at again from the beginning.
            Err(stop) => return Err(stop),
        }
    }
}

pub(super) fn recvfrom(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let flags = call.argument(3);
    let place = Place::One(call.argument(1), call.argument(2).min(MAX_TRANSFER) as usize);
    let received = receive(call, &socket, &file, &place, flags)?;
    if call.argument(4) != 0 {
        write_sender(call, &socket, &received)?;
    }
    Ok(result(&socket, &received, flags))
}

fn write_sender(call: &Call<'_>, socket: &Socket, received: &Received) -> Result<(), Errno> {
    let (at, length_at) = (call.argument(4), call.argument(5));
    if received.sender.is_none() {
        // A stream has no senders, an unnamed one no address.
        return guest::write(length_at, &0_u32);
    }
    write_address(&received.sender.encode(socket.family), at, length_at)
}

/// The number of bytes that a call returns.
fn result(socket: &Socket, received: &Received, flags: u64) -> u64 {
    if flags & MSG_TRUNC != 0 && !socket.is_stream() {
        received.whole as u64
    } else {
        received.count as u64
    }
}

fn receive_message(
    call: &mut Call<'_>,
    socket: &Rc<Socket>,
    file: &OpenFile,
    at: u64,
    flags: u64,
) -> Outcome {
    let header = read_header(at)?;
    let received = receive(call, socket, file, &header.place, flags)?;
    let room = if header.control == 0 { 0 } else { header.control_room };
    let mut control = Writer::new(usize::try_from(room).unwrap_or(usize::MAX));
    ancillary::tell(socket, &received, &mut control);
    if !received.files.is_empty() {
        install_files(call, &received.files, flags, &mut control);
    }
    let mut out_flags = control.flags;
    if received.whole > received.count {
        out_flags |= MSG_TRUNC as u32;
    }
    if socket.style == Style::Packet && received.whole > 0 {
        out_flags |= MSG_EOR as u32;
    }
    out_flags |= (flags & MSG_CMSG_CLOEXEC) as u32;
    if !control.bytes().is_empty() {
        guest::write_bytes(header.control, control.bytes())?;
    }
    if header.name != 0 {
        let encoded = received.sender.encode(socket.family);
        let bytes = if received.sender.is_none() { &[] } else { encoded.bytes() };
        let fits = bytes.len().min(header.name_room as usize);
        guest::write_bytes(header.name, bytes.get(..fits).unwrap_or_default())?;
        guest::write(header.at.wrapping_add(8), &(bytes.len() as u32))?;
    }
    guest::write(header.at.wrapping_add(40), &(control.bytes().len() as u64))?;
    guest::write(header.at.wrapping_add(48), &out_flags)?;
    Ok(result(socket, &received, flags))
}

/// Gives the caller descriptors for received files, as many as it has room for.
fn install_files(call: &Call<'_>, files: &[Rc<OpenFile>], flags: u64, control: &mut Writer) {
    let fits = control.room() / 4;
    let mut fds: Vec<u8> = Vec::new();
    for file in files.iter().take(fits) {
        match call.install(file.clone(), flags & MSG_CMSG_CLOEXEC != 0) {
            Ok(fd) => fds.extend_from_slice(&(fd as i32).to_le_bytes()),
            Err(_) => break,
        }
    }
    if fds.len() < 4 * files.len() {
        control.flags |= ancillary::MSG_CTRUNC;
    }
    if !fds.is_empty() {
        control.put(options::SOCKET, ancillary::RIGHTS.into(), &fds);
    }
}

pub(super) fn recvmsg(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    receive_message(call, &socket, &file, call.argument(1), call.argument(2))
}

pub(super) fn sendmmsg(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let (at, flags) = (call.argument(1), call.argument(3));
    each_message(call, call.argument(2).min(MAX_MESSAGES), |call, index| {
        send_message(call, &socket, &file, at.wrapping_add(MMSGHDR * index), flags)
    })
}

pub(super) fn recvmmsg(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let (at, flags) = (call.argument(1), call.argument(3));
    let limit = match call.argument(4) {
        0 => u64::MAX,
        timeout => {
            let timeout = super::time::duration(&guest::read(timeout)?)?;
            super::time::deadline_after(call, timeout)
        }
    };
    each_message(call, call.argument(2).min(MAX_MESSAGES), |call, index| {
        if index > 0 && limit != u64::MAX && rt::clock::now() >= limit {
            return Err(Errno::EAGAIN.into());
        }
        let waits_once = flags & MSG_WAITFORONE != 0 && index > 0;
        let flags = if waits_once { flags | MSG_DONTWAIT } else { flags };
        receive_message(call, &socket, &file, at.wrapping_add(MMSGHDR * index), flags)
    })
}

/// Does something for each message, and writes its length; how many were done outlives a wait.
fn each_message(
    call: &mut Call<'_>,
    count: u64,
    one: impl Fn(&mut Call<'_>, u64) -> Outcome,
) -> Outcome {
    let at = call.argument(1);
    let mut done = call.task.call.get().memo;
    while done < count {
        match one(call, done) {
            Ok(length) => {
                guest::write(at.wrapping_add(MMSGHDR * done + MMSGHDR_LENGTH), &(length as u32))?;
                done += 1;
                let mut state = call.task.call.get();
                state.memo = done;
                state.progress = 0;
                call.task.call.set(state);
            }
            Err(Stop::Errno(_)) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    // The next call begins with nothing done.
    let mut state = call.task.call.get();
    state.memo = 0;
    call.task.call.set(state);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_skipped_from_the_front() {
        let pieces = [(0x1000, 10), (0x2000, 0), (0x3000, 20)];
        assert_eq!(Place::rest(&pieces, 0), pieces);
        assert_eq!(Place::rest(&pieces, 4), [(0x1004, 6), (0x2000, 0), (0x3000, 20)]);
        assert_eq!(Place::rest(&pieces, 15), [(0x100a, 0), (0x2000, 0), (0x3005, 15)]);
        assert_eq!(Place::Many(pieces.to_vec()).length(), 30);
    }
}
