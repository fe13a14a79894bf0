//! The interface `lo`, as netdevice(7)'s ioctls tell of it.

use super::{Address, Family};
use crate::linux::Errno;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Its name.
pub const NAME: &[u8] = b"lo";
/// Its number.
pub const INDEX: u32 = 1;
/// IFF_UP, IFF_LOOPBACK, IFF_RUNNING.
pub const FLAGS: u32 = 0x49;
/// Its MTU.
pub const MTU: u32 = 65536;
/// Its queue length.
pub const QUEUE: u32 = 1000;
/// ARPHRD_LOOPBACK.
pub const HARDWARE: u16 = 772;
/// Bytes of a `struct ifreq`.
pub const REQUEST: usize = 40;
/// Bytes of its name.
const NAME_SIZE: usize = 16;

/// SIOCGIFCONF.
pub const GET_LIST: u32 = 0x8912;

/// An internet address as the structures of this interface hold it.
fn address(ip: Ipv4Addr) -> [u8; 16] {
    let encoded = Address::Internet(SocketAddr::new(IpAddr::V4(ip), 0)).encode(Family::Inet);
    encoded.bytes().first_chunk().copied().unwrap_or_default()
}

/// Whether a number is that of a request about interfaces.
#[must_use]
pub const fn is_request(request: u32) -> bool {
    matches!(request, 0x8910..=0x8948 | 0x8970 | 0x8971 | 0x89a0..=0x89a3)
}

/// Answers a request about an interface in its `struct ifreq`.
///
/// # Errors
/// `ENODEV`, `EPERM` for changes, `EOPNOTSUPP`, `EINVAL`.
pub fn answer(request: u32, ifreq: &mut [u8; REQUEST]) -> Result<(), Errno> {
    let (name, value) = ifreq.split_at_mut(NAME_SIZE);
    // SIOCGIFNAME: by number.
    if request == 0x8910 {
        if value.first_chunk() != Some(&INDEX.to_le_bytes()) {
            return Err(Errno::ENODEV);
        }
        name.fill(0);
        return put(name, NAME);
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_SIZE);
    // An alias (`lo:1`) is its interface.
    let base = name.get(..end).and_then(|name| name.split(|byte| *byte == b':').next());
    if base != Some(NAME) {
        return Err(Errno::ENODEV);
    }
    match request {
        // SIOCGIFFLAGS, SIOCSIFFLAGS: what it is already changes nothing.
        0x8913 => put(value, &(FLAGS as u16).to_le_bytes()),
        0x8914 => match value.first_chunk() {
            Some(flags) if u32::from(u16::from_le_bytes(*flags)) & 1 != 0 => Ok(()),
            _ => Err(Errno::EPERM),
        },
        // SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK.
        0x8915 | 0x8917 => put(value, &address(Ipv4Addr::LOCALHOST)),
        0x8919 => put(value, &address(Ipv4Addr::UNSPECIFIED)),
        0x891b => put(value, &address(Ipv4Addr::new(255, 0, 0, 0))),
        // SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFTXQLEN, SIOCGIFINDEX.
        0x891d => put(value, &0_u32.to_le_bytes()),
        0x8921 => put(value, &MTU.to_le_bytes()),
        0x8942 => put(value, &QUEUE.to_le_bytes()),
        0x8933 => put(value, &INDEX.to_le_bytes()),
        // SIOCGIFHWADDR, SIOCGIFMAP.
        0x8927 => {
            value.fill(0);
            put(value, &HARDWARE.to_le_bytes())
        }
        0x8970 => {
            value.fill(0);
            Ok(())
        }
        // SIOCETHTOOL, SIOCGMIIPHY, SIOCGMIIREG.
        0x8946..=0x8948 => Err(Errno::EOPNOTSUPP),
        // Everything else changes something.
        _ => Err(Errno::EPERM),
    }
}

fn put(place: &mut [u8], bytes: &[u8]) -> Result<(), Errno> {
    place.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
    Ok(())
}

/// The entry of SIOCGIFCONF.
#[must_use]
pub fn entry() -> [u8; REQUEST] {
    let mut ifreq = [0; REQUEST];
    let (name, value) = ifreq.split_at_mut(NAME_SIZE);
    let _ = put(name, NAME);
    let _ = put(value, &address(Ipv4Addr::LOCALHOST));
    ifreq
}
