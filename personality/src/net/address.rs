//! Socket addresses: `struct sockaddr` and what it means.
//!
//! Internet addresses are kept as they are meant: an IPv4 address written as a mapped IPv6 address is an IPv4 address, and is mapped again for a socket of the other
//! family. So both families meet in one table of ports.

use super::Family;
use crate::linux::Errno;
use alloc::rc::Rc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest address: `struct sockaddr_storage`.
pub const MAX_ADDRESS: usize = 128;
/// Bytes of a `struct sockaddr_un`.
const UNIX_SIZE: usize = 110;

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// None: not bound, not connected, or AF_UNSPEC.
    #[default]
    None,
    /// A path, or an abstract name, which begins with a zero byte.
    Unix(Rc<[u8]>),
    /// An IP address and port.
    Internet(SocketAddr),
    /// Port number and groups of a netlink socket.
    Netlink(u32, u32),
}

/// An address as the guest sees it.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; MAX_ADDRESS],
    length: usize,
}

impl Encoded {
    fn new(family: Family) -> Self {
        let mut encoded = Self { bytes: [0; MAX_ADDRESS], length: 0 };
        encoded.put(&family.number().to_le_bytes());
        encoded
    }
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Address {
    /// Reads an address for a socket of a family. AF_UNSPEC is [`Address::None`].
    ///
    /// # Errors
    /// `EINVAL` for a wrong length, `EAFNOSUPPORT` for another family.
    pub fn decode(bytes: &[u8], family: Family) -> Result<Self, Errno> {
        let Some((number, rest)) = bytes.split_first_chunk::<2>() else {
            return Err(Errno::EINVAL);
        };
        let number = u16::from_le_bytes(*number);
        if number == 0 {
            return Ok(Self::None);
        }
        if family.is_internet() && bytes.len() < 16 {
            return Err(Errno::EINVAL);
        }
        match (Family::of_number(number), family) {
            (Some(Family::Unix), Family::Unix) => decode_unix(rest),
            (Some(Family::Inet), Family::Inet | Family::Inet6) => {
                let [p0, p1, a, b, c, d] = *rest.first_chunk().ok_or(Errno::EINVAL)?;
                let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
                Ok(Self::Internet(SocketAddr::new(ip, u16::from_be_bytes([p0, p1]))))
            }
            (Some(Family::Inet6), Family::Inet6) => {
                let fields = rest.first_chunk::<22>().ok_or(Errno::EINVAL)?;
                let port = u16::from_be_bytes([fields[0], fields[1]]);
                let ip = fields.last_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |ip| (*ip).into());
                Ok(Self::Internet(SocketAddr::new(meaning(ip), port)))
            }
            (Some(Family::Netlink), Family::Netlink) => {
                let fields = rest.first_chunk::<10>().ok_or(Errno::EINVAL)?;
                let word = |at: usize| {
                    let bytes = fields.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                    u32::from_le_bytes(bytes.unwrap_or_default())
                };
                Ok(Self::Netlink(word(2), word(6)))
            }
            _ if family == Family::Unix => Err(Errno::EINVAL),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Writes it as a socket of a family shows it; `None` of an internet family is all zeros.
    #[must_use]
    pub fn encode(&self, family: Family) -> Encoded {
        let mut out = Encoded::new(family);
        match (self, family) {
            (Self::Unix(name), _) => {
                out.put(name);
                if name.first().is_some_and(|byte| *byte != 0) && name.len() < UNIX_SIZE - 2 {
                    out.put(&[0]);
                }
            }
            (Self::Internet(address), Family::Inet6) => {
                out.put(&address.port().to_be_bytes());
                out.put(&[0; 4]);
                let ip = match address.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                out.put(&ip.octets());
                out.put(&[0; 4]);
            }
            (Self::Internet(address), _) => {
                out.put(&address.port().to_be_bytes());
                if let IpAddr::V4(ip) = address.ip() {
                    out.put(&ip.octets());
                }
                out.put(&[0; 8]);
            }
            (Self::Netlink(port, groups), _) => {
                out.put(&[0; 2]);
                out.put(&port.to_le_bytes());
                out.put(&groups.to_le_bytes());
            }
            (Self::None, Family::Unix) => {}
            (Self::None, Family::Inet) => out.put(&[0; 14]),
            (Self::None, Family::Inet6) => out.put(&[0; 26]),
            (Self::None, Family::Netlink) => out.put(&[0; 10]),
        }
        out
    }

    /// The IP address and port.
    #[must_use]
    pub const fn internet(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            _ => None,
        }
    }
    /// The path or abstract name.
    #[must_use]
    pub fn unix(&self) -> Option<&Rc<[u8]>> {
        match self {
            Self::Unix(name) => Some(name),
            _ => None,
        }
    }
    /// Whether there is none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

fn decode_unix(rest: &[u8]) -> Result<Address, Errno> {
    if rest.len() > UNIX_SIZE - 2 {
        return Err(Errno::EINVAL);
    }
    let is_path = rest.first().is_some_and(|byte| *byte != 0);
    let end = rest.iter().position(|byte| *byte == 0).filter(|_| is_path).unwrap_or(rest.len());
    Ok(Address::Unix(rest.get(..end).unwrap_or_default().into()))
}

/// What an IPv6 address means: mapped addresses are IPv4.
#[must_use]
pub fn meaning(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

/// Where a packet for an address goes: "any" means this host.
///
/// # Errors
/// `ENETUNREACH` for everything that is not this host: there is no other interface than `lo`.
pub fn route(ip: IpAddr) -> Result<IpAddr, Errno> {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ip if is_local(ip) => Ok(ip),
        _ => Err(Errno::ENETUNREACH),
    }
}

/// Whether an address is this host's.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() && ip != LOOPBACK_BROADCAST,
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

/// The broadcast address of `lo`.
pub const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// The address that packets to a local address are sent from.
#[must_use]
pub const fn source_for(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
