//! Options of sockets (getsockopt(2), setsockopt(2)).

use super::{Call, Outcome, sockets::own};
use crate::{
    linux::{Errno, layouts::Timeval},
    machine::guest,
    net::{
        Family, Socket, Style,
        address::is_local,
        interfaces,
        options::{IP, IPV6, SOCKET, TCP, UDP, UDP_LITE},
        report,
        socket::Phase,
    },
};
use alloc::{rc::Rc, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// SOL_NETLINK.
const NETLINK: u64 = 270;
/// Longest value that is read.
const MAX_VALUE: u64 = 256;

/// A value as the guest gave it.
fn read_value(call: &Call<'_>) -> Result<Vec<u8>, Errno> {
    let length = call.int(4);
    if length < 0 {
        return Err(Errno::EINVAL);
    }
    let mut value = alloc::vec![0; (length as u64).min(MAX_VALUE) as usize];
    guest::read_bytes(call.argument(3), &mut value)?;
    Ok(value)
}

fn word(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|word| i32::from_le_bytes(*word)).ok_or(Errno::EINVAL)
}

/// A number that may be given as one byte (ip(7)).
fn number(value: &[u8]) -> Result<i32, Errno> {
    match (value.first(), value.first_chunk()) {
        (_, Some(word)) => Ok(i32::from_le_bytes(*word)),
        (Some(byte), None) => Ok(i32::from(*byte)),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn setsockopt(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let (level, name) = (call.argument(1) & 0xffff_ffff, call.argument(2) & 0xffff_ffff);
    let value = read_value(call)?;
    let result = match level {
        SOCKET => set_socket(&socket, name, &value),
        IP | IPV6 if socket.family.is_internet() => set_ip(&socket, level, name, &value),
        TCP if socket.is_tcp() => set_tcp(&socket, name, &value),
        UDP if socket.family.is_internet() && socket.style == Style::Datagram => {
            socket.options.keep(UDP, name, word(&value)?)
        }
        UDP_LITE if u64::from(socket.protocol) == UDP_LITE => {
            socket.options.keep(UDP_LITE, name, word(&value)?)
        }
        // NETLINK_ADD_MEMBERSHIP and the like: `lo` never changes, so there is nothing to be told.
        NETLINK if socket.family == Family::Netlink => Ok(()),
        // Others have no such level.
        TCP | UDP | IP | IPV6 if socket.family.is_internet() => Err(Errno::ENOPROTOOPT),
        _ => Err(Errno::EOPNOTSUPP),
    };
    let is_filter = level == SOCKET && matches!(name, 26 | 27 | 50 | 51 | 52);
    if result == Err(Errno::ENOPROTOOPT) || is_filter {
        crate::gap!(call.system, "setsockopt");
    }
    result.map(|()| 0).map_err(Into::into)
}

fn set_socket(socket: &Rc<Socket>, name: u64, value: &[u8]) -> Result<(), Errno> {
    let options = &socket.options;
    match name {
        // SO_LINGER.
        13 => {
            let on = word(value)?;
            let seconds = word(value.get(4..).unwrap_or_default())?;
            options.linger.set((on != 0).then_some(seconds.cast_unsigned()));
            return Ok(());
        }
        // SO_RCVTIMEO, SO_SNDTIMEO, and their forms with other words of the same size.
        20 | 66 => return set_timeout(&options.receive_timeout, value),
        21 | 67 => return set_timeout(&options.send_timeout, value),
        // SO_BINDTODEVICE.
        25 => {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            let device = value.get(..end).unwrap_or_default();
            let is_known = device.is_empty() || device == interfaces::NAME;
            return if is_known { Ok(()) } else { Err(Errno::ENODEV) };
        }
        _ => {}
    }
    let number = word(value)?;
    let is_on = number != 0;
    match name {
        2 => options.reuses_address.set(is_on),
        6 => options.may_broadcast.set(is_on),
        7 => options.set_buffer(true, number.cast_unsigned()),
        8 => options.set_buffer(false, number.cast_unsigned()),
        15 if is_on && !socket.family.is_internet() => return Err(Errno::EOPNOTSUPP),
        15 => options.reuses_port.set(is_on),
        16 if socket.family == Family::Unix => options.passes_identity.set(is_on),
        16 if socket.family == Family::Netlink => {}
        18 => {
            options.low_water.set(u32::try_from(number).unwrap_or(i32::MAX as u32).max(1));
        }
        // SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_MARK need CAP_NET_ADMIN.
        32 | 33 | 36 => return Err(Errno::EPERM),
        // SO_ATTACH_FILTER, SO_DETACH_FILTER.
        27 => return Err(Errno::ENOENT),
        // SO_TYPE, SO_ERROR, SO_PROTOCOL, SO_DOMAIN, SO_ACCEPTCONN.
        3 | 4 | 30 | 38 | 39 => return Err(Errno::ENOPROTOOPT),
        _ => return options.keep(SOCKET, name, number),
    }
    Ok(())
}

fn set_timeout(place: &core::cell::Cell<u64>, value: &[u8]) -> Result<(), Errno> {
    let (seconds, rest) = value.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let seconds = i64::from_le_bytes(*seconds);
    let microseconds = i64::from_le_bytes(*rest.first_chunk().ok_or(Errno::EINVAL)?);
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno::EDOM);
    }
    // Linux takes a negative time for one that is over; nothing waits then.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let whole = seconds.saturating_mul(1_000_000_000);
    place.set(whole.saturating_add(microseconds as u64 * 1000));
    Ok(())
}

fn set_tcp(socket: &Socket, name: u64, value: &[u8]) -> Result<(), Errno> {
    match name {
        // TCP_CONGESTION.
        13 => {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            let known = [&b"cubic"[..], b"reno"];
            let is_known = value.get(..end).is_some_and(|name| known.contains(&name));
            if is_known { Ok(()) } else { Err(Errno::ENOENT) }
        }
        _ => socket.options.keep(TCP, name, word(value)?),
    }
}

fn set_ip(socket: &Rc<Socket>, level: u64, name: u64, value: &[u8]) -> Result<(), Errno> {
    match (level, name) {
        // IPV6_V6ONLY, before it is bound.
        (IPV6, 26) if socket.family == Family::Inet6 => {
            if !socket.local.borrow().is_none() {
                return Err(Errno::EINVAL);
            }
            socket.options.is_v6_only.set(word(value)? != 0);
            Ok(())
        }
        // IP_TRANSPARENT needs CAP_NET_ADMIN.
        (IP, 19) if number(value)? != 0 => Err(Errno::EPERM),
        (IP, 19) => Ok(()),
        // IP_MULTICAST_IF, IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP.
        (IP, 32) => {
            let ip = interface_of(value)?;
            socket.options.multicast_interface.set(ip.is_some());
            Ok(())
        }
        (IP, 35 | 36) => {
            let group: [u8; 4] =
                *value.first_chunk().filter(|_| value.len() >= 8).ok_or(Errno::EINVAL)?;
            let group = Ipv4Addr::from(group);
            if !group.is_multicast() {
                return Err(Errno::EINVAL);
            }
            if name == 35 && interface_of(value)?.is_none() {
                // There is no route that would choose an interface.
                return Err(Errno::ENODEV);
            }
            socket.options.set_member(IpAddr::V4(group), name == 35)
        }
        // IPV6_MULTICAST_IF, IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP.
        (IPV6, 17) if socket.family == Family::Inet6 => match word(value)? {
            0 => {
                socket.options.multicast_interface.set(false);
                Ok(())
            }
            1 => {
                socket.options.multicast_interface.set(true);
                Ok(())
            }
            _ => Err(Errno::ENODEV),
        },
        (IPV6, 20 | 21) if socket.family == Family::Inet6 => {
            let group: [u8; 16] = *value.first_chunk().ok_or(Errno::EINVAL)?;
            let index = word(value.get(16..).unwrap_or_default())?;
            if name == 20 && index.cast_unsigned() != interfaces::INDEX {
                return Err(Errno::ENODEV);
            }
            socket.options.set_member(IpAddr::V6(Ipv6Addr::from(group)), name == 20)
        }
        (IP, _) => socket.options.keep(IP, name, number(value)?),
        _ => socket.options.keep(IPV6, name, word(value)?),
    }
}

/// The address of the interface that an `ip_mreq`, an `ip_mreqn` or a plain address names; `None` for "any".
fn interface_of(value: &[u8]) -> Result<Option<Ipv4Addr>, Errno> {
    let at = if value.len() >= 8 { 4 } else { 0 };
    let ip: [u8; 4] = *value.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Errno::EINVAL)?;
    let index = value
        .get(8..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u32::from_le_bytes(*word));
    let ip = Ipv4Addr::from(ip);
    match index {
        0 if ip.is_unspecified() => Ok(None),
        0 if is_local(IpAddr::V4(ip)) => Ok(Some(ip)),
        0 => Err(Errno::EADDRNOTAVAIL),
        interfaces::INDEX => Ok(Some(Ipv4Addr::LOCALHOST)),
        _ => Err(Errno::ENODEV),
    }
}

pub(super) fn getsockopt(call: &mut Call<'_>) -> Outcome {
    let (socket, _) = own(call, 0)?;
    let (level, name) = (call.argument(1) & 0xffff_ffff, call.argument(2) & 0xffff_ffff);
    let room: i32 = guest::read(call.argument(4))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = match level {
        SOCKET => get_socket(&socket, name),
        TCP if socket.is_tcp() => get_tcp(&socket, name),
        IP | IPV6 if socket.family.is_internet() => get_ip(&socket, level, name),
        UDP if socket.family.is_internet() => {
            socket.options.kept(UDP, name).map(bytes).ok_or(Errno::ENOPROTOOPT)
        }
        UDP_LITE if u64::from(socket.protocol) == UDP_LITE => {
            socket.options.kept(UDP_LITE, name).map(bytes).ok_or(Errno::ENOPROTOOPT)
        }
        TCP if socket.family.is_internet() => Err(Errno::ENOPROTOOPT),
        _ => Err(Errno::EOPNOTSUPP),
    };
    if value == Err(Errno::ENOPROTOOPT) {
        crate::gap!(call.system, "getsockopt");
    }
    let value = value?;
    // ip(7): a number that fits is told in one byte if there is room for one only.
    let is_small = level == IP && room < 4 && room > 0 && value.len() == 4;
    let count = if is_small { 1 } else { value.len().min(room) };
    guest::write_bytes(call.argument(3), value.get(..count).unwrap_or_default())?;
    guest::write(call.argument(4), &(count as u32))?;
    Ok(0)
}

fn bytes(value: i32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn get_socket(socket: &Rc<Socket>, name: u64) -> Result<Vec<u8>, Errno> {
    let options = &socket.options;
    let number = match name {
        2 => i32::from(options.reuses_address.get()),
        3 => socket.style.number() as i32,
        4 => socket.take_error().map_or(0, |errno| i32::from(errno.0)),
        6 => i32::from(options.may_broadcast.get()),
        7 => options.send_buffer.get() as i32,
        8 => options.receive_buffer.get() as i32,
        15 => i32::from(options.reuses_port.get()),
        16 => i32::from(options.passes_identity.get()),
        18 => options.low_water.get() as i32,
        19 => 1,
        30 => i32::from(socket.is_listening()),
        36 => 0,
        38 => socket.protocol as i32,
        39 => i32::from(socket.family.number()),
        49 => -1,
        13 => {
            let linger = options.linger.get();
            let words = [u32::from(linger.is_some()), linger.unwrap_or(0)];
            return Ok(zerocopy::IntoBytes::as_bytes(&words).to_vec());
        }
        17 if socket.family == Family::Unix => {
            let (pid, uid, gid) = socket.peer_identity.get();
            let words = [pid.cast_unsigned(), uid, gid];
            return Ok(zerocopy::IntoBytes::as_bytes(&words).to_vec());
        }
        17 => {
            let words = [0, u32::MAX, u32::MAX];
            return Ok(zerocopy::IntoBytes::as_bytes(&words).to_vec());
        }
        20 | 66 => return Ok(timeout(options.receive_timeout.get())),
        21 | 67 => return Ok(timeout(options.send_timeout.get())),
        25 => return Ok(Vec::new()),
        57 => return Ok(socket.number.to_le_bytes().to_vec()),
        _ => options.kept(SOCKET, name).ok_or(Errno::ENOPROTOOPT)?,
    };
    Ok(bytes(number))
}

fn timeout(nanoseconds: u64) -> Vec<u8> {
    let value = Timeval {
        seconds: (nanoseconds / 1_000_000_000) as i64,
        microseconds: (nanoseconds % 1_000_000_000 / 1000) as i64,
    };
    zerocopy::IntoBytes::as_bytes(&value).to_vec()
}

/// Bytes of a `struct tcp_info` that are told, and the largest segment of `lo`.
const TCP_INFO: usize = 232;
const SEGMENT: u32 = 65483;

fn get_tcp(socket: &Socket, name: u64) -> Result<Vec<u8>, Errno> {
    match name {
        2 if socket.phase.get() == Phase::Connected => Ok(bytes(SEGMENT as i32)),
        11 => {
            let mut info = alloc::vec![0; TCP_INFO];
            let mut put = |at: usize, value: &[u8]| {
                if let Some(place) = info.get_mut(at..at + value.len()) {
                    place.copy_from_slice(value);
                }
            };
            put(0, &[report::state(socket)]);
            // Retransmission timeout and its clock, segment sizes, round-trip time, path MTU.
            put(8, &200_000_u32.to_le_bytes());
            put(16, &SEGMENT.to_le_bytes());
            put(20, &SEGMENT.to_le_bytes());
            put(60, &interfaces::MTU.to_le_bytes());
            put(68, &20_u32.to_le_bytes());
            put(80, &10_u32.to_le_bytes());
            if socket.is_listening() {
                let (waiting, limit) = socket.backlog();
                put(24, &(waiting as u32).to_le_bytes());
                put(28, &(limit as u32).to_le_bytes());
            }
            Ok(info)
        }
        13 => Ok(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        _ => socket.options.kept(TCP, name).map(bytes).ok_or(Errno::ENOPROTOOPT),
    }
}

fn get_ip(socket: &Socket, level: u64, name: u64) -> Result<Vec<u8>, Errno> {
    let is_connected = socket.phase.get() == Phase::Connected;
    let number = match (level, name) {
        (IPV6, 26) if socket.family == Family::Inet6 => i32::from(socket.options.is_v6_only.get()),
        // IP_MTU, IPV6_MTU.
        (IP, 14) | (IPV6, 24) if is_connected => interfaces::MTU as i32,
        (IP, 14) | (IPV6, 24) => return Err(Errno::ENOTCONN),
        (IP, 19) => 0,
        (IP, 32) => return Ok(alloc::vec![0; 4]),
        (IPV6, 17) => i32::from(socket.options.multicast_interface.get()),
        _ => socket.options.kept(level, name).ok_or(Errno::ENOPROTOOPT)?,
    };
    Ok(bytes(number))
}
