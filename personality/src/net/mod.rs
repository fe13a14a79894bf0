//! Sockets: unix(7), ip(7), ipv6(7), tcp(7), udp(7) and the reading half of rtnetlink(7), within the compartment.
//!
//! Owns: every socket, the tables of names and ports, files in flight. Must not know: system-call registers, descriptors' tables, other compartments.
//!
//! A connection is two sockets that know each other: what one sends is put into the other's inbox at once, in the order and with the limits that Linux has. There are no
//! packets, acknowledgements or timers, because between two ends in one memory nothing is lost, reordered or late (`docs/design/0011-loopback-without-packets.md`).
//! The only interface is `lo`. An external network is one more way to fill an inbox and to empty what was sent: [`address::route`] is the one place that decides where
//! an address leads, and [`Socket`] the one type that would hold a connection of a packet stack.
//!
//! ```text
//! syscall::sockets, syscall::messages -> Socket -> stream (tcp, unix streams and packets) | datagram (udp, unix) | netlink
//!                                          |-> inbox (bytes, messages, files in flight)
//!                                          '-> Network: names, ports, garbage (cycles of files in flight)
//! ```

pub mod address;
pub mod ancillary;
pub mod bytes;
mod datagram;
pub mod garbage;
pub mod inbox;
pub mod interfaces;
pub mod netlink;
pub mod options;
pub mod ports;
pub mod report;
pub mod socket;
mod stream;

pub use address::Address;
pub use socket::{Manner, Outgoing, Socket};

use crate::linux::Errno;
use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
};
use core::cell::{Cell, RefCell};

/// Address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AF_UNIX.
    Unix,
    /// AF_INET.
    Inet,
    /// AF_INET6.
    Inet6,
    /// AF_NETLINK, NETLINK_ROUTE.
    Netlink,
}

impl Family {
    /// The family of a number.
    #[must_use]
    pub const fn of_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Unix,
            2 => Self::Inet,
            10 => Self::Inet6,
            16 => Self::Netlink,
            _ => return None,
        })
    }
    /// Linux's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Unix => 1,
            Self::Inet => 2,
            Self::Inet6 => 10,
            Self::Netlink => 16,
        }
    }
    /// Whether it is IP.
    #[must_use]
    pub const fn is_internet(self) -> bool {
        matches!(self, Self::Inet | Self::Inet6)
    }
}

/// Kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM (and SOCK_RAW of netlink).
    Datagram,
    /// SOCK_SEQPACKET.
    Packet,
}

impl Style {
    /// Linux's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::Packet => 5,
        }
    }
}

/// IPPROTO_UDPLITE (udplite(7)).
pub const UDP_LITE: u32 = 136;

/// Who sent something: pid, uid, gid.
pub type Identity = (i32, u32, u32);

/// What the sockets of a compartment share.
#[derive(Debug, Default)]
pub struct Network {
    /// Abstract names of unix sockets.
    names: RefCell<BTreeMap<Rc<[u8]>, Weak<Socket>>>,
    /// TCP's and UDP's ports.
    pub tcp: ports::Ports,
    /// See `tcp`.
    pub udp: ports::Ports,
    /// Those of UDP-Lite, which is UDP but for the checksum, which nothing here has.
    pub udp_lite: ports::Ports,
    /// Files in messages.
    pub flight: garbage::Flight,
    /// Every socket, by number, for /proc/net.
    sockets: RefCell<BTreeMap<u64, Weak<Socket>>>,
    last: Cell<u64>,
    /// The last port number given to a netlink socket.
    netlink_port: Cell<u32>,
}

impl Network {
    /// The number of a new socket.
    fn register(&self, socket: &Weak<Socket>) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.sockets.borrow_mut().insert(number, socket.clone());
        number
    }
    fn unregister(&self, socket: &Socket) {
        self.sockets.borrow_mut().remove(&socket.number);
    }
    /// A weak reference to a socket.
    fn weak(&self, number: u64) -> Weak<Socket> {
        self.sockets.borrow().get(&number).cloned().unwrap_or_default()
    }
    /// Every socket there is, in the order of their creation.
    pub fn each(&self, each: &mut dyn FnMut(&Rc<Socket>)) {
        for socket in self.sockets.borrow().values().filter_map(Weak::upgrade) {
            each(&socket);
        }
    }
    /// Binds an abstract name.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub fn bind_name(&self, name: &Rc<[u8]>, socket: &Rc<Socket>) -> Result<(), Errno> {
        let mut names = self.names.borrow_mut();
        if names.get(name).is_some_and(|known| known.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(name.clone(), Rc::downgrade(socket));
        Ok(())
    }
    /// The socket with an abstract name.
    #[must_use]
    pub fn find_name(&self, name: &[u8]) -> Option<Rc<Socket>> {
        self.names.borrow().get(name).and_then(Weak::upgrade)
    }
    fn forget_name(&self, name: &[u8]) {
        if name.first() == Some(&0) {
            self.names.borrow_mut().remove(name);
        }
    }
}
