//! Sockets but for their messages and options (socket(2), bind(2), connect(2), accept(2), ...).

use super::{Call, Outcome};
use crate::{
    file::{Kind, Node, Object, OpenFile, open::identity_of, watch},
    linux::{AT_FDCWD, Errno, O_CLOEXEC, O_NONBLOCK, O_RDWR, S_IFSOCK},
    machine::guest,
    net::{
        Address, Family, Manner, Network, Socket, Style, UDP_LITE,
        address::{Encoded, MAX_ADDRESS},
        interfaces,
        socket::{Phase, Shut},
    },
};
use alloc::rc::Rc;
use core::cell::RefCell;

fn style_of(kind: u64) -> Result<Style, Errno> {
    match kind & 0xf {
        1 => Ok(Style::Stream),
        2 => Ok(Style::Datagram),
        5 => Ok(Style::Packet),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn flags_of(kind: u64) -> Result<u32, Errno> {
    let flags = kind as u32 & !0xf;
    if flags & !(O_CLOEXEC | O_NONBLOCK) == 0 { Ok(flags) } else { Err(Errno::EINVAL) }
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

/// Family, style and protocol of a new socket.
///
/// # Errors
/// `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `EPERM` for raw sockets, as for a process without CAP_NET_RAW.
fn kind_of(call: &mut Call<'_>) -> Result<(Family, Style, u32), Errno> {
    let (number, kind, protocol) = (call.argument(0), call.argument(1), call.argument(2) as u32);
    let family = u16::try_from(number).ok().and_then(Family::of_number);
    match (family, kind & 0xf) {
        // AF_PACKET, and raw sockets of IP.
        (None, _) if number == 17 => Err(Errno::EPERM),
        (Some(Family::Inet | Family::Inet6), 3) => {
            crate::gap!(call.system, "socket: raw sockets");
            Err(Errno::EPERM)
        }
        (None, _) => {
            crate::gap!(call.system, "socket: families other than unix, IP and netlink");
            Err(Errno::EAFNOSUPPORT)
        }
        (Some(Family::Netlink), 2 | 3) if protocol == 0 => {
            Ok((Family::Netlink, Style::Datagram, 0))
        }
        (Some(Family::Netlink), 2 | 3) => {
            crate::gap!(call.system, "socket: netlink protocols other than route");
            Err(Errno::EPROTONOSUPPORT)
        }
        (Some(Family::Unix), 3) => Ok((Family::Unix, Style::Datagram, 0)),
        (Some(Family::Unix), _) if protocol > 1 => Err(Errno::EPROTONOSUPPORT),
        (Some(Family::Unix), _) => Ok((Family::Unix, style_of(kind)?, 0)),
        (Some(family), _) => match (style_of(kind)?, protocol) {
            (Style::Stream, 0 | 6) => Ok((family, Style::Stream, 6)),
            (Style::Datagram, 0 | 17) => Ok((family, Style::Datagram, 17)),
            (Style::Datagram, UDP_LITE) => Ok((family, Style::Datagram, UDP_LITE)),
            // Ping sockets are for groups that net.ipv4.ping_group_range names; it names none.
            (Style::Datagram, 1 | 58) => Err(Errno::EACCES),
            (Style::Packet, _) => Err(Errno::ESOCKTNOSUPPORT),
            (_, protocol) if protocol > 255 => Err(Errno::EINVAL),
            _ => Err(Errno::EPROTONOSUPPORT),
        },
    }
}

fn make(call: &Call<'_>, kind: (Family, Style, u32)) -> Rc<Socket> {
    let network: &Rc<Network> = &call.system.network;
    Socket::new(network, kind.0, kind.1, kind.2, identity_of(&call.task.process))
}

pub(super) fn socket(call: &mut Call<'_>) -> Outcome {
    let flags = flags_of(call.argument(1))?;
    let kind = kind_of(call)?;
    let socket = make(call, kind);
    install(call, socket, flags).map_err(Into::into)
}

pub(super) fn socketpair(call: &mut Call<'_>) -> Outcome {
    let flags = flags_of(call.argument(1))?;
    let kind = kind_of(call)?;
    if kind.0 != Family::Unix {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let (one, other) = (make(call, kind), make(call, kind));
    Socket::pair(&one, &other, identity_of(&call.task.process));
    let take_back = |fd: u64| {
        let _ = call.task.files.borrow().borrow_mut().remove(fd as i32);
    };
    // Each file keeps its own end; the ends know each other weakly.
    let first = install(call, one, flags)?;
    let second = install(call, other, flags).inspect_err(|_| take_back(first))?;
    guest::write(call.argument(3), &[first as i32, second as i32]).inspect_err(|_| {
        take_back(first);
        take_back(second);
    })?;
    Ok(0)
}

/// The socket of a descriptor argument, and its file.
pub(super) fn own(call: &Call<'_>, index: usize) -> Result<(Rc<Socket>, Rc<OpenFile>), Errno> {
    let file = call.file(index)?;
    match &file.object {
        Object::Socket(socket) => Ok((socket.clone(), file)),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// How a call on a file waits.
pub(super) fn manner<'a>(call: &Call<'a>, file: &OpenFile) -> Manner<'a> {
    Manner { non_blocking: file.flags() & O_NONBLOCK != 0, task: call.task }
}

/// Reads an address of the guest's for a socket.
pub(super) fn read_address(socket: &Socket, at: u64, length: u64) -> Result<Address, Errno> {
    let length = length as u32 as i32;
    let mut buffer = [0; MAX_ADDRESS];
    let place = usize::try_from(length).ok().and_then(|length| buffer.get_mut(..length));
    let bytes = place.ok_or(Errno::EINVAL)?;
    guest::read_bytes(at, bytes)?;
    Address::decode(bytes, socket.family)
}

/// Writes an address, as much as there is room for, and its whole length.
pub(super) fn write_address(encoded: &Encoded, at: u64, length_at: u64) -> Result<(), Errno> {
    if at == 0 {
        return Ok(());
    }
    let room: i32 = guest::read(length_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = encoded.bytes();
    guest::write_bytes(at, bytes.get(..room.min(bytes.len())).unwrap_or_default())?;
    guest::write(length_at, &(bytes.len() as u32))
}

/// The unix socket that an address names.
pub(super) fn find(call: &Call<'_>, address: &Address) -> Result<Rc<Socket>, Errno> {
    let name = address.unix().ok_or(Errno::EINVAL)?;
    if name.first() == Some(&0) {
        return call.system.network.find_name(name).ok_or(Errno::ECONNREFUSED);
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
    let address = read_address(&socket, call.argument(1), call.argument(2))?;
    match (socket.family, address) {
        (Family::Unix, Address::Unix(name)) => bind_unix(call, &socket, name)?,
        (Family::Netlink, Address::Netlink(port, groups)) => socket.bind_netlink(port, groups)?,
        (Family::Inet | Family::Inet6, Address::Internet(to)) => {
            let is_other = socket.family == Family::Inet6 && call.argument(2) < 24;
            if is_other {
                return Err(Errno::EINVAL.into());
            }
            socket.bind_internet(to)?;
        }
        // AF_UNSPEC with "any" is taken for AF_INET, as ever.
        (Family::Inet, Address::None) => {
            let any = core::net::SocketAddr::from(([0, 0, 0, 0], port_of(call)?));
            socket.bind_internet(any)?;
        }
        (Family::Inet6, Address::None) => return Err(Errno::EAFNOSUPPORT.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// The port of a `struct sockaddr_in` whose family is AF_UNSPEC and whose address must be "any".
fn port_of(call: &Call<'_>) -> Result<u16, Errno> {
    if call.argument(2) < 16 {
        return Err(Errno::EINVAL);
    }
    let bytes: [u8; 8] = guest::read(call.argument(1))?;
    let [_, _, high, low, ip @ ..] = bytes;
    if ip == [0; 4] { Ok(u16::from_be_bytes([high, low])) } else { Err(Errno::EAFNOSUPPORT) }
}

fn bind_unix(call: &Call<'_>, socket: &Rc<Socket>, name: Rc<[u8]>) -> Result<(), Errno> {
    if !socket.local.borrow().is_none() {
        return Err(Errno::EINVAL);
    }
    if name.is_empty() {
        bind_any_name(call, socket)?;
        return Ok(());
    }
    if name.first() == Some(&0) {
        call.system.network.bind_name(&name, socket)?;
    } else {
        bind_path(call, socket, &name)?;
    }
    *socket.local.borrow_mut() = Address::Unix(name);
    Ok(())
}

/// Gives a socket an abstract name of five digits (autobind, unix(7)).
pub(super) fn bind_any_name(call: &Call<'_>, socket: &Rc<Socket>) -> Result<(), Errno> {
    for _ in 0..0x10_0000 {
        let (random, _) = crate::file::device::random();
        let name: Rc<[u8]> = alloc::format!("\0{:05x}", random & 0xf_ffff).into_bytes().into();
        if call.system.network.bind_name(&name, socket).is_ok() {
            *socket.local.borrow_mut() = Address::Unix(name);
            return Ok(());
        }
    }
    Err(Errno::ENOSPC)
}

fn bind_path(call: &Call<'_>, socket: &Rc<Socket>, name: &[u8]) -> Result<(), Errno> {
    let credentials = call.task.credentials();
    let mode = S_IFSOCK | (0o777 & !call.task.place().mask.get());
    call.at(AT_FDCWD, name, |walker| {
        let found = walker.walk(name, false)?;
        if found.node.is_some() {
            return Err(Errno::EADDRINUSE);
        }
        walker.check_change(&found.directory, None)?;
        let kind = Kind::Socket(RefCell::new(Rc::downgrade(socket)));
        let node = Node::new(
            kind,
            mode,
            credentials.users[3],
            credentials.groups[3],
            0,
            found.directory.device,
        );
        found.directory.link(&found.name, node.clone())?;
        watch::tell_entry(&found.directory, &found.name, &node, watch::CREATE);
        Ok(())
    })
}

pub(super) fn listen(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    // A negative backlog is the longest.
    let backlog = usize::try_from(call.int(1)).unwrap_or(usize::MAX);
    socket.listen(backlog, identity_of(&call.task.process))?;
    Ok(0)
}

pub(super) fn connect(call: &mut Call<'_>) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let address = read_address(&socket, call.argument(1), call.argument(2))?;
    let how = manner(call, &file);
    match (&address, socket.style) {
        (Address::None, Style::Datagram) => socket.connect_datagram(&address, None)?,
        (Address::None, _) if socket.family.is_internet() => socket.dissolve(),
        (Address::None, _) => return Err(Errno::EINVAL.into()),
        (Address::Netlink(port, _), _) => {
            if *port != 0 {
                return Err(Errno::ECONNREFUSED.into());
            }
            if socket.local.borrow().is_none() {
                socket.bind_netlink(0, 0)?;
            }
        }
        (Address::Unix(_), Style::Datagram) => {
            let target = find(call, &address)?;
            socket.connect_datagram(&address, Some(&target))?;
        }
        (Address::Unix(_), _) => {
            let target = find(call, &address)?;
            socket.connect_unix(&target, identity_of(&call.task.process), how)?;
        }
        (Address::Internet(_), Style::Datagram) => socket.connect_datagram(&address, None)?,
        (Address::Internet(to), _) => socket.connect_internet(*to, how)?,
    }
    Ok(0)
}

fn accept_with(call: &mut Call<'_>, flags: u32) -> Outcome {
    let (socket, file) = own(call, 0)?;
    let accepted = socket.accept(manner(call, &file))?;
    let name = peer_address(&accepted).encode(accepted.family);
    write_address(&name, call.argument(1), call.argument(2))?;
    install(call, accepted, flags).map_err(Into::into)
}

pub(super) fn accept(call: &mut Call<'_>) -> Outcome {
    accept_with(call, 0)
}

pub(super) fn accept4(call: &mut Call<'_>) -> Outcome {
    let flags = flags_of(call.argument(3) & !0xf).and_then(|flags| {
        if call.argument(3) & 0xf == 0 { Ok(flags) } else { Err(Errno::EINVAL) }
    })?;
    accept_with(call, flags)
}

pub(super) fn shutdown(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let how = match call.argument(1) {
        0 => Shut { receive: true, send: false },
        1 => Shut { receive: false, send: true },
        2 => Shut { receive: true, send: true },
        _ => return Err(Errno::EINVAL.into()),
    };
    socket.shutdown(how)?;
    Ok(0)
}

pub(super) fn getsockname(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let name = socket.local.borrow().encode(socket.family);
    write_address(&name, call.argument(1), call.argument(2))?;
    Ok(0)
}

/// The address of a socket's peer: a unix peer may have got its name after it was connected.
pub(super) fn peer_address(socket: &Socket) -> Address {
    match socket.peer().filter(|_| socket.family == Family::Unix) {
        Some(peer) => peer.local.borrow().clone(),
        None => socket.remote.borrow().clone(),
    }
}

pub(super) fn getpeername(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let is_connected = match socket.phase.get() {
        Phase::Connected => true,
        Phase::Closed => socket.family == Family::Unix,
        _ => socket.family == Family::Netlink,
    };
    if !is_connected {
        return Err(Errno::ENOTCONN.into());
    }
    let name = peer_address(&socket).encode(socket.family);
    write_address(&name, call.argument(1), call.argument(2))?;
    Ok(0)
}

/// ioctl(2) on a socket.
pub(super) fn ioctl(call: &mut Call<'_>, socket: &Socket, request: u32, argument: u64) -> Outcome {
    match request {
        // SIOCOUTQ, SIOCATMARK.
        0x5411 => guest::write(argument, &(socket.unsent() as u32))?,
        0x8905 => guest::write(argument, &0_u32)?,
        interfaces::GET_LIST => list_interfaces(argument)?,
        request if interfaces::is_request(request) => {
            let mut ifreq: [u8; interfaces::REQUEST] = guest::read(argument)?;
            interfaces::answer(request, &mut ifreq)?;
            guest::write(argument, &ifreq)?;
        }
        _ => {
            crate::gap!(call.system, "ioctl on a socket");
            return Err(Errno::ENOTTY.into());
        }
    }
    Ok(0)
}

/// SIOCGIFCONF: the length of a buffer and its address.
fn list_interfaces(argument: u64) -> Result<(), Errno> {
    let [length, buffer]: [u64; 2] = guest::read(argument)?;
    let room = i32::try_from(length & 0xffff_ffff).map_err(|_| Errno::EINVAL)?;
    let entry = interfaces::entry();
    let fits = room as usize >= entry.len();
    if buffer != 0 && fits {
        guest::write(buffer, &entry)?;
    }
    let used = if buffer == 0 || fits { entry.len() as u32 } else { 0 };
    guest::write(argument, &used)
}
