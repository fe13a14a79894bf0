//! Socket options (socket(7), ip(7), ipv6(7), tcp(7), udp(7)): what is kept, its bounds and what it is at first.
//!
//! Options that change what the compartment does have a field of their own. The others are numbers that a packet would carry or a retransmission would heed; between two
//! sockets in one memory they have no effect, so they are checked, kept and told, in the table `KEPT`.

use super::{Family, Style};
use crate::linux::Errno;
use alloc::vec::Vec;
use core::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

/// SOL_SOCKET.
pub const SOCKET: u64 = 1;
/// IPPROTO_IP.
pub const IP: u64 = 0;
/// IPPROTO_TCP.
pub const TCP: u64 = 6;
/// IPPROTO_UDP.
pub const UDP: u64 = 17;
/// IPPROTO_UDPLITE.
pub const UDP_LITE: u64 = 136;
/// IPPROTO_IPV6.
pub const IPV6: u64 = 41;

/// Largest buffer that can be asked for (net.core.wmem_max, rmem_max).
const MAX_BUFFER: u32 = 212_992;
/// Buffers of a new socket that is not TCP (net.core.wmem_default).
const BUFFER: u32 = 212_992;
/// Those of TCP: what an autotuned loopback connection comes to.
const TCP_SEND_BUFFER: u32 = 2_626_560;
const TCP_RECEIVE_BUFFER: u32 = 131_072;
/// Smallest buffers.
const MIN_SEND_BUFFER: u32 = 4608;
const MIN_RECEIVE_BUFFER: u32 = 2304;

/// Which sockets know an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    All,
    Internet,
    Inet6,
    Tcp,
    Udp,
}

/// An option that is a number: level, name, who knows it, first value, bounds.
type Kept = (u64, u64, For, i32, i32, i32);

const ANY: (i32, i32) = (i32::MIN, i32::MAX);
const MAX: i32 = i32::MAX;

/// Options that are checked, kept and told. Truth values have the bounds 0 and 1.
const KEPT: &[Kept] = &[
    // SO_DEBUG, SO_DONTROUTE, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY.
    (SOCKET, 1, For::All, 0, 0, 1),
    (SOCKET, 5, For::All, 0, 0, 1),
    (SOCKET, 9, For::All, 0, 0, 1),
    (SOCKET, 10, For::All, 0, 0, 1),
    (SOCKET, 11, For::All, 0, 0, 1),
    (SOCKET, 12, For::All, 0, 0, 6),
    // SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL, SO_PEEK_OFF, SO_LOCK_FILTER, SO_BUSY_POLL, SO_INCOMING_CPU, SO_ZEROCOPY.
    (SOCKET, TIMESTAMP, For::All, 0, 0, 1),
    (SOCKET, TIMESTAMPNS, For::All, 0, 0, 1),
    (SOCKET, 40, For::All, 0, 0, 1),
    (SOCKET, 44, For::All, 0, 0, 1),
    (SOCKET, 46, For::All, 0, 0, MAX),
    (SOCKET, 60, For::Internet, 0, 0, 1),
    // IP_TOS, IP_TTL (-1 is the default), IP_RECVOPTS, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS.
    (IP, IP_TOS, For::Internet, 0, 0, 255),
    (IP, IP_TTL, For::Internet, 64, -1, 255),
    (IP, 6, For::Internet, 0, 0, 1),
    (IP, IP_PKTINFO, For::Internet, 0, 0, 1),
    (IP, 10, For::Internet, 1, 0, 5),
    (IP, IP_RECVERR, For::Internet, 0, 0, 1),
    (IP, IP_RECVTTL, For::Internet, 0, 0, 1),
    (IP, IP_RECVTOS, For::Internet, 0, 0, 1),
    // IP_FREEBIND, IP_RECVORIGDSTADDR, IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_TTL, IP_MULTICAST_LOOP, IP_MULTICAST_ALL, IP_LOCAL_PORT_RANGE.
    (IP, 15, For::Internet, 0, 0, 1),
    (IP, 20, For::Internet, 0, 0, 1),
    (IP, 24, For::Internet, 0, 0, 1),
    (IP, IP_MULTICAST_TTL, For::Internet, 1, -1, 255),
    (IP, IP_MULTICAST_LOOP, For::Internet, 1, 0, 1),
    (IP, 49, For::Internet, 1, 0, 1),
    // IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_MULTICAST_ALL.
    (IPV6, IPV6_UNICAST_HOPS, For::Inet6, 64, -1, 255),
    (IPV6, IPV6_MULTICAST_HOPS, For::Inet6, 1, -1, 255),
    (IPV6, IPV6_MULTICAST_LOOP, For::Inet6, 1, 0, 1),
    (IPV6, 23, For::Inet6, 1, 0, 5),
    (IPV6, 25, For::Inet6, 0, 0, 1),
    (IPV6, 29, For::Inet6, 1, 0, 1),
    // IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVHOPOPTS, IPV6_RECVRTHDR, IPV6_RECVDSTOPTS, IPV6_RECVPATHMTU, IPV6_DONTFRAG, IPV6_RECVTCLASS, IPV6_TCLASS.
    (IPV6, IPV6_RECVPKTINFO, For::Inet6, 0, 0, 1),
    (IPV6, IPV6_RECVHOPLIMIT, For::Inet6, 0, 0, 1),
    (IPV6, 53, For::Inet6, 0, 0, 1),
    (IPV6, 56, For::Inet6, 0, 0, 1),
    (IPV6, 58, For::Inet6, 0, 0, 1),
    (IPV6, 60, For::Inet6, 0, 0, 1),
    (IPV6, 62, For::Inet6, 0, 0, 1),
    (IPV6, IPV6_RECVTCLASS, For::Inet6, 0, 0, 1),
    (IPV6, IPV6_TCLASS, For::Inet6, 0, -1, 255),
    // TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_QUICKACK.
    (TCP, 1, For::Tcp, 0, 0, 1),
    (TCP, 2, For::Tcp, 536, 88, 32767),
    (TCP, 3, For::Tcp, 0, 0, 1),
    (TCP, 4, For::Tcp, 7200, 1, 32767),
    (TCP, 5, For::Tcp, 75, 1, 32767),
    (TCP, 6, For::Tcp, 9, 1, 127),
    (TCP, 7, For::Tcp, 6, 1, 127),
    (TCP, 8, For::Tcp, 60, ANY.0, ANY.1),
    (TCP, 9, For::Tcp, 0, ANY.0, ANY.1),
    (TCP, 10, For::Tcp, 0, 0, MAX),
    (TCP, 12, For::Tcp, 1, 0, 1),
    // TCP_THIN_LINEAR_TIMEOUTS, TCP_THIN_DUPACK, TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_TIMESTAMP, TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_FASTOPEN_CONNECT.
    (TCP, 16, For::Tcp, 0, 0, 1),
    (TCP, 17, For::Tcp, 0, 0, 1),
    (TCP, 18, For::Tcp, 0, 0, MAX),
    (TCP, 23, For::Tcp, 0, 0, MAX),
    (TCP, 25, For::Tcp, -1, ANY.0, ANY.1),
    (TCP, 27, For::Tcp, 0, 0, 1),
    // UDP_CORK, and the coverage of UDP-Lite's checksum.
    (UDP, 1, For::Udp, 0, 0, 1),
    (UDP_LITE, 10, For::Udp, 0, 0, 65535),
    (UDP_LITE, 11, For::Udp, 0, 0, 65535),
];

/// SO_TIMESTAMP.
pub const TIMESTAMP: u64 = 29;
/// SO_TIMESTAMPNS.
pub const TIMESTAMPNS: u64 = 35;
/// IP_TOS.
pub const IP_TOS: u64 = 1;
/// IP_TTL.
pub const IP_TTL: u64 = 2;
/// IP_PKTINFO.
pub const IP_PKTINFO: u64 = 8;
/// IP_RECVERR.
pub const IP_RECVERR: u64 = 11;
/// IP_RECVTTL.
pub const IP_RECVTTL: u64 = 12;
/// IP_RECVTOS.
pub const IP_RECVTOS: u64 = 13;
const IP_MULTICAST_TTL: u64 = 33;
const IP_MULTICAST_LOOP: u64 = 34;
const IPV6_UNICAST_HOPS: u64 = 16;
const IPV6_MULTICAST_HOPS: u64 = 18;
const IPV6_MULTICAST_LOOP: u64 = 19;
/// IPV6_RECVPKTINFO.
pub const IPV6_RECVPKTINFO: u64 = 49;
/// IPV6_RECVHOPLIMIT.
pub const IPV6_RECVHOPLIMIT: u64 = 51;
/// IPV6_RECVTCLASS.
pub const IPV6_RECVTCLASS: u64 = 66;
/// IPV6_TCLASS.
pub const IPV6_TCLASS: u64 = 67;

/// Time to live of a packet, if nobody says otherwise.
const TIME_TO_LIVE: u8 = 64;
/// Groups a socket can be a member of (net.ipv4.igmp_max_memberships).
const MAX_GROUPS: usize = 20;

/// The options of a socket.
#[derive(Debug)]
pub struct Options {
    family: Family,
    style: Style,
    /// SO_REUSEADDR.
    pub reuses_address: Cell<bool>,
    /// SO_REUSEPORT.
    pub reuses_port: Cell<bool>,
    /// SO_BROADCAST.
    pub may_broadcast: Cell<bool>,
    /// SO_PASSCRED.
    pub passes_identity: Cell<bool>,
    /// IPV6_V6ONLY.
    pub is_v6_only: Cell<bool>,
    /// IP_MULTICAST_IF or IPV6_MULTICAST_IF names `lo`.
    pub multicast_interface: Cell<bool>,
    /// SO_SNDBUF.
    pub send_buffer: Cell<u32>,
    /// SO_RCVBUF.
    pub receive_buffer: Cell<u32>,
    /// SO_RCVLOWAT.
    pub low_water: Cell<u32>,
    /// SO_LINGER, in seconds.
    pub linger: Cell<Option<u32>>,
    /// SO_RCVTIMEO in nanoseconds, 0 for none.
    pub receive_timeout: Cell<u64>,
    /// SO_SNDTIMEO.
    pub send_timeout: Cell<u64>,
    /// Those of [`KEPT`] that are not what they were at first, by index.
    changed: RefCell<Vec<(u8, i32)>>,
    groups: RefCell<Vec<IpAddr>>,
}

impl Options {
    /// What they are at first.
    #[must_use]
    pub fn new(family: Family, style: Style) -> Self {
        let is_tcp = family.is_internet() && style == Style::Stream;
        Self {
            family,
            style,
            reuses_address: Cell::new(false),
            reuses_port: Cell::new(false),
            may_broadcast: Cell::new(false),
            passes_identity: Cell::new(false),
            is_v6_only: Cell::new(false),
            multicast_interface: Cell::new(false),
            send_buffer: Cell::new(if is_tcp { TCP_SEND_BUFFER } else { BUFFER }),
            receive_buffer: Cell::new(if is_tcp { TCP_RECEIVE_BUFFER } else { BUFFER }),
            low_water: Cell::new(1),
            linger: Cell::new(None),
            receive_timeout: Cell::new(0),
            send_timeout: Cell::new(0),
            changed: RefCell::default(),
            groups: RefCell::default(),
        }
    }

    /// An accepted connection takes its listener's.
    pub(super) fn inherit(&self, from: &Self) {
        self.reuses_address.set(from.reuses_address.get());
        self.reuses_port.set(from.reuses_port.get());
        self.is_v6_only.set(from.is_v6_only.get());
        self.passes_identity.set(from.passes_identity.get());
        self.linger.set(from.linger.get());
        if self.family.is_internet() {
            self.send_buffer.set(from.send_buffer.get());
            self.receive_buffer.set(from.receive_buffer.get());
            self.low_water.set(from.low_water.get());
            self.receive_timeout.set(from.receive_timeout.get());
            self.send_timeout.set(from.send_timeout.get());
            self.changed.borrow_mut().clone_from(&from.changed.borrow());
        }
    }

    fn knows(&self, who: For) -> bool {
        match who {
            For::All => true,
            For::Internet => self.family.is_internet(),
            For::Inet6 => self.family == Family::Inet6,
            For::Tcp => self.family.is_internet() && self.style == Style::Stream,
            For::Udp => self.family.is_internet() && self.style == Style::Datagram,
        }
    }
    fn find(&self, level: u64, name: u64) -> Option<(u8, &'static Kept)> {
        let index =
            KEPT.iter().position(|kept| kept.0 == level && kept.1 == name && self.knows(kept.2))?;
        Some((index as u8, KEPT.get(index)?))
    }

    /// A number that is only kept; `None` when there is no such option.
    #[must_use]
    pub fn kept(&self, level: u64, name: u64) -> Option<i32> {
        let (index, kept) = self.find(level, name)?;
        let changed = self.changed.borrow();
        Some(changed.iter().find(|(known, _)| *known == index).map_or(kept.3, |(_, value)| *value))
    }
    fn is_set(&self, level: u64, name: u64) -> bool {
        !self.changed.borrow().is_empty() && self.kept(level, name) == Some(1)
    }

    /// Keeps a number.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `EINVAL`.
    pub fn keep(&self, level: u64, name: u64, value: i32) -> Result<(), Errno> {
        let (index, kept) = self.find(level, name).ok_or(Errno::ENOPROTOOPT)?;
        let (first, low, high) = (kept.3, kept.4, kept.5);
        let value = match value {
            _ if (low, high) == (0, 1) => i32::from(value != 0),
            _ if !(low..=high).contains(&value) => return Err(Errno::EINVAL),
            -1 if low == -1 => first,
            0 if (level, name) == (IP, IP_TTL) => return Err(Errno::EINVAL),
            value => value,
        };
        let mut changed = self.changed.borrow_mut();
        match changed.iter_mut().find(|(known, _)| *known == index) {
            Some((_, place)) => *place = value,
            None => changed.push((index, value)),
        }
        Ok(())
    }

    /// SO_SNDBUF and SO_RCVBUF: Linux doubles what it is asked for, within bounds.
    pub fn set_buffer(&self, is_send: bool, wanted: u32) {
        let doubled = 2 * wanted.min(MAX_BUFFER);
        if is_send {
            self.send_buffer.set(doubled.max(MIN_SEND_BUFFER));
        } else {
            self.receive_buffer.set(doubled.max(MIN_RECEIVE_BUFFER));
        }
    }

    /// Whether messages are stamped with their time.
    #[must_use]
    pub fn stamps(&self) -> bool {
        self.is_set(SOCKET, TIMESTAMP) || self.is_set(SOCKET, TIMESTAMPNS)
    }
    /// Whether something is told of the IP header.
    #[must_use]
    pub fn tells(&self, level: u64, name: u64) -> bool {
        self.is_set(level, name)
    }
    /// Whether any kept option was ever changed: most sockets have no more to ask.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.changed.borrow().is_empty()
    }
    /// IP_RECVERR, IPV6_RECVERR.
    #[must_use]
    pub fn reports_errors(&self) -> bool {
        self.is_set(IP, IP_RECVERR) || self.is_set(IPV6, 25)
    }
    /// The time to live, or hop limit, of what is sent.
    #[must_use]
    pub fn time_to_live(&self, to_group: bool) -> u8 {
        let (level, name) = match (self.family, to_group) {
            (Family::Inet6, false) => (IPV6, IPV6_UNICAST_HOPS),
            (Family::Inet6, true) => (IPV6, IPV6_MULTICAST_HOPS),
            (_, false) => (IP, IP_TTL),
            (_, true) => (IP, IP_MULTICAST_TTL),
        };
        if !to_group && self.is_plain() {
            return TIME_TO_LIVE;
        }
        self.kept(level, name).and_then(|value| u8::try_from(value).ok()).unwrap_or(TIME_TO_LIVE)
    }
    /// The type of service, or traffic class, of what is sent.
    #[must_use]
    pub fn type_of_service(&self) -> u8 {
        if self.is_plain() {
            return 0;
        }
        let (level, name) =
            if self.family == Family::Inet6 { (IPV6, IPV6_TCLASS) } else { (IP, IP_TOS) };
        self.kept(level, name).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
    }
    /// Whether what is sent to a group comes back.
    #[must_use]
    pub fn loops_multicast(&self) -> bool {
        let (level, name) = if self.family == Family::Inet6 {
            (IPV6, IPV6_MULTICAST_LOOP)
        } else {
            (IP, IP_MULTICAST_LOOP)
        };
        self.kept(level, name) != Some(0)
    }
    /// Whether it is a member of a group.
    #[must_use]
    pub fn is_member(&self, group: IpAddr) -> bool {
        self.groups.borrow().contains(&group)
    }
    /// Joins a group, or leaves it.
    ///
    /// # Errors
    /// `EINVAL`, `EADDRINUSE`, `EADDRNOTAVAIL`, `ENOBUFS`.
    pub fn set_member(&self, group: IpAddr, joins: bool) -> Result<(), Errno> {
        let mut groups = self.groups.borrow_mut();
        let known = groups.iter().position(|known| *known == group);
        match (joins, known) {
            _ if !group.is_multicast() => Err(Errno::EINVAL),
            (true, Some(_)) => Err(Errno::EADDRINUSE),
            (true, None) if groups.len() >= MAX_GROUPS => Err(Errno::ENOBUFS),
            (true, None) => {
                groups.push(group);
                Ok(())
            }
            (false, Some(index)) => {
                groups.remove(index);
                Ok(())
            }
            (false, None) => Err(Errno::EADDRNOTAVAIL),
        }
    }
}
