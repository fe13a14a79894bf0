//! Control messages of sendmsg(2) and recvmsg(2): cmsg(3).

use super::{
    Address, Family, Socket,
    inbox::Received,
    options::{self, IP, IPV6, SOCKET},
};
use crate::linux::Errno;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Longest control data of one call (net.core.optmem_max).
pub const MAX_CONTROL: u64 = 20 * 1024;
/// Bytes of a `struct cmsghdr`.
const HEADER: usize = 16;
/// SCM_RIGHTS.
pub const RIGHTS: u32 = 1;
/// SCM_CREDENTIALS.
pub const CREDENTIALS: u32 = 2;
/// MSG_CTRUNC.
pub const MSG_CTRUNC: u32 = 8;

/// Calls a function with level, type and data of each message.
///
/// # Errors
/// `EINVAL` for a length that does not fit, and those of the function.
pub fn each(
    control: &[u8],
    mut each: impl FnMut(u32, u32, &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut rest = control;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let (size, kind) = header.split_at(8);
        let size = u64::from_le_bytes(size.try_into().unwrap_or_default());
        let (level, kind) = kind.split_at(4);
        let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        let data = rest.get(HEADER..size).ok_or(Errno::EINVAL)?;
        each(
            u32::from_le_bytes(level.try_into().unwrap_or_default()),
            u32::from_le_bytes(kind.try_into().unwrap_or_default()),
            data,
        )?;
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(())
}

/// Control data on its way to the guest, which has so much room for it.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    room: usize,
    /// MSG_CTRUNC, if something did not fit.
    pub flags: u32,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub const fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room, flags: 0 }
    }
    /// Bytes for data in the next message.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.bytes.len() + HEADER)
    }
    /// Appends a message; what does not fit is cut off.
    pub fn put(&mut self, level: u64, kind: u64, data: &[u8]) {
        if self.bytes.len() + HEADER > self.room {
            self.flags |= MSG_CTRUNC;
            return;
        }
        let fits = data.len().min(self.room());
        if fits < data.len() {
            self.flags |= MSG_CTRUNC;
        }
        self.bytes.extend_from_slice(&((HEADER + fits) as u64).to_le_bytes());
        self.bytes.extend_from_slice(&(level as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(kind as u32).to_le_bytes());
        self.bytes.extend_from_slice(data.get(..fits).unwrap_or_default());
        let padded = self.bytes.len().next_multiple_of(8).min(self.room);
        self.bytes.resize(padded, 0);
    }
    /// What there is.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes what the socket wants to be told beside files: who, when, and what IP says.
pub fn tell(socket: &Socket, received: &Received, out: &mut Writer) {
    if socket.options.passes_identity.get() && socket.family == Family::Unix {
        let (pid, uid, gid) = received.identity;
        let words = [pid.cast_unsigned(), uid, gid];
        out.put(SOCKET, CREDENTIALS.into(), zerocopy::IntoBytes::as_bytes(&words));
    }
    if socket.options.is_plain() {
        return;
    }
    if received.sent != 0 {
        let (seconds, nanoseconds) = crate::system::time::split(received.sent);
        let is_fine = socket.options.tells(SOCKET, options::TIMESTAMPNS);
        let (kind, fraction) = if is_fine {
            (options::TIMESTAMPNS, i64::from(nanoseconds))
        } else {
            (options::TIMESTAMP, i64::from(nanoseconds / 1000))
        };
        out.put(SOCKET, kind, zerocopy::IntoBytes::as_bytes(&[seconds, fraction]));
    }
    if let (Some(to), Address::Internet(_)) = (received.header.to, &received.sender) {
        tell_header(socket, received, to, out);
    }
}

/// Number of the interface `lo`.
const LOOPBACK: u32 = 1;

fn tell_header(socket: &Socket, received: &Received, to: IpAddr, out: &mut Writer) {
    let header = received.header;
    let options = &socket.options;
    if let (IpAddr::V4(to), true) = (to, options.tells(IP, options::IP_PKTINFO)) {
        let mut data = [0; 12];
        data[..4].copy_from_slice(&LOOPBACK.to_le_bytes());
        data[4..8].copy_from_slice(&to.octets());
        data[8..].copy_from_slice(&to.octets());
        out.put(IP, options::IP_PKTINFO, &data);
    }
    if to.is_ipv4() && options.tells(IP, options::IP_RECVTTL) {
        out.put(IP, options::IP_TTL, &u32::from(header.ttl).to_le_bytes());
    }
    if to.is_ipv4() && options.tells(IP, options::IP_RECVTOS) {
        out.put(IP, options::IP_TOS, &[header.tos]);
    }
    if socket.family != Family::Inet6 {
        return;
    }
    if options.tells(IPV6, options::IPV6_RECVPKTINFO) {
        let ip = match to {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut data = [0; 20];
        data[..16].copy_from_slice(&ip.octets());
        data[16..].copy_from_slice(&LOOPBACK.to_le_bytes());
        out.put(IPV6, IPV6_PKTINFO, &data);
    }
    if options.tells(IPV6, options::IPV6_RECVHOPLIMIT) {
        out.put(IPV6, IPV6_HOPLIMIT, &u32::from(header.ttl).to_le_bytes());
    }
    if options.tells(IPV6, options::IPV6_RECVTCLASS) {
        out.put(IPV6, options::IPV6_TCLASS, &u32::from(header.tos).to_le_bytes());
    }
}

/// IPV6_PKTINFO.
pub const IPV6_PKTINFO: u64 = 50;
/// IPV6_HOPLIMIT.
pub const IPV6_HOPLIMIT: u64 = 52;
