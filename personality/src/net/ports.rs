//! Ports of TCP or UDP: who is bound to which, who may bind beside whom, and who gets what comes.

use super::{Socket, address};
use crate::linux::Errno;
use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
};

/// Ports given to those who ask for none (ip_local_port_range).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;
/// How long a port stays taken after its connection was ended from this side (TIME_WAIT), in nanoseconds.
const LINGERS: u64 = 60_000_000_000;

/// One port.
#[derive(Debug, Default)]
struct Port {
    bound: Vec<Binding>,
    /// Connections that were accepted at it, without and with SO_REUSEADDR.
    connections: [usize; 2],
    /// Until when connections that are over forbid binding, without and with SO_REUSEADDR (nanoseconds since boot).
    lingers: [u64; 2],
}

/// A socket at a port.
#[derive(Debug)]
struct Binding {
    socket: Weak<Socket>,
    ip: IpAddr,
    /// It takes both families (an IPv6 socket at `::`).
    is_dual: bool,
    uid: u32,
}

/// A table of ports.
#[derive(Debug, Default)]
pub struct Ports {
    ports: RefCell<BTreeMap<u16, Port>>,
    next: Cell<u16>,
}

/// Whether two addresses at one port overlap.
fn overlap(one: (IpAddr, bool), other: (IpAddr, bool)) -> bool {
    let covers = |(ip, is_dual): (IpAddr, bool), what: IpAddr| {
        ip.is_unspecified() && (is_dual || ip.is_ipv4() == what.is_ipv4()) || ip == what
    };
    covers(one, other.0) || covers(other, one.0)
}

impl Port {
    /// Whether a socket may not be bound here beside the others.
    fn refuses(&self, socket: &Socket, ip: IpAddr, uid: u32, is_stream: bool) -> bool {
        let reuses = socket.options.reuses_address.get();
        let is_dual = socket.is_dual(ip);
        let now = rt::clock::since_boot();
        if is_stream {
            let blocks = self.connections[0] > 0 || self.lingers[0] > now;
            let may_block = self.connections[1] > 0 || self.lingers[1] > now;
            // Those of a listener that shares its port with everybody of its user block nobody of them.
            if (blocks || may_block && !reuses) && !socket.options.reuses_port.get() {
                return true;
            }
        }
        self.bound.iter().any(|binding| {
            let Some(other) = binding.socket.upgrade() else { return false };
            let both_reuse = reuses && other.options.reuses_address.get();
            let both_share = socket.options.reuses_port.get()
                && other.options.reuses_port.get()
                && uid == binding.uid;
            let may_share = both_share || both_reuse && !(is_stream && other.is_listening());
            !core::ptr::eq(Rc::as_ptr(&other), socket)
                && !may_share
                && overlap((ip, is_dual), (binding.ip, binding.is_dual))
        })
    }
    fn is_unused(&self) -> bool {
        let now = rt::clock::since_boot();
        self.bound.is_empty()
            && self.connections == [0, 0]
            && self.lingers.iter().all(|until| *until <= now)
    }
}

impl Ports {
    /// Binds a socket; port 0 is any free one. The port.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub fn bind(&self, socket: &Rc<Socket>, ip: IpAddr, port: u16, uid: u32) -> Result<u16, Errno> {
        let is_stream = socket.is_stream();
        let mut ports = self.ports.borrow_mut();
        let port = if port == 0 {
            self.free_port(&ports).ok_or(Errno::EADDRINUSE)?
        } else {
            if ports.get(&port).is_some_and(|known| known.refuses(socket, ip, uid, is_stream)) {
                return Err(Errno::EADDRINUSE);
            }
            port
        };
        let binding =
            Binding { socket: Rc::downgrade(socket), ip, is_dual: socket.is_dual(ip), uid };
        ports.entry(port).or_default().bound.push(binding);
        Ok(port)
    }

    /// A port that nobody uses, beginning at a random one the first time.
    fn free_port(&self, ports: &BTreeMap<u16, Port>) -> Option<u16> {
        let (first, count) = (*EPHEMERAL.start(), EPHEMERAL.len() as u16);
        if self.next.get() == 0 {
            let (random, _) = crate::file::device::random();
            self.next.set(1 + (random % u64::from(count)) as u16);
        }
        for _ in 0..count {
            let port = first + self.next.get() % count;
            self.next.set(1 + self.next.get() % count);
            if ports.get(&port).is_none_or(Port::is_unused) {
                return Some(port);
            }
        }
        None
    }

    /// Whether a bound socket may begin to listen: nobody else listens there, but those who share the port.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub fn check_listen(&self, socket: &Socket, address: SocketAddr) -> Result<(), Errno> {
        let ports = self.ports.borrow();
        let Some(port) = ports.get(&address.port()) else { return Ok(()) };
        let is_dual = socket.is_dual(address.ip());
        let is_taken = port.bound.iter().any(|binding| {
            let Some(other) = binding.socket.upgrade() else { return false };
            let both_share = socket.options.reuses_port.get() && other.options.reuses_port.get();
            !core::ptr::eq(Rc::as_ptr(&other), socket)
                && other.is_listening()
                && !both_share
                && overlap((address.ip(), is_dual), (binding.ip, binding.is_dual))
        });
        if is_taken { Err(Errno::EADDRINUSE) } else { Ok(()) }
    }

    /// Releases a socket's port.
    pub fn release(&self, socket: &Socket, port: u16) {
        let mut ports = self.ports.borrow_mut();
        let Some(place) = ports.get_mut(&port) else { return };
        place.bound.retain(|binding| {
            !core::ptr::eq(binding.socket.as_ptr(), socket) && binding.socket.strong_count() > 0
        });
        if place.is_unused() {
            ports.remove(&port);
        }
    }

    /// A connection was accepted at a port.
    pub fn enter(&self, port: u16, reuses: bool) {
        let mut ports = self.ports.borrow_mut();
        ports.entry(port).or_default().connections[usize::from(reuses)] += 1;
    }

    /// A connection of a port is over; if it `lingers`, its port stays taken for a while.
    pub fn leave(&self, port: u16, reuses: bool, lingers: bool) {
        let mut ports = self.ports.borrow_mut();
        let Some(place) = ports.get_mut(&port) else { return };
        let index = usize::from(reuses);
        place.connections[index] = place.connections[index].saturating_sub(1);
        if lingers {
            place.lingers[index] = rt::clock::since_boot().saturating_add(LINGERS);
        }
        if place.is_unused() {
            ports.remove(&port);
        }
    }

    /// The socket that gets what `from` sends to an address: of those that may, the one that says most exactly what it wants. Among equals that share the port
    /// the sender's port decides, otherwise the latest.
    pub fn find(
        &self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        may: impl Fn(&Socket) -> bool,
    ) -> Option<Rc<Socket>> {
        let ports = self.ports.borrow();
        let port = ports.get(&to.port())?;
        let mut best: Vec<Rc<Socket>> = Vec::new();
        let mut best_score = 0;
        for binding in &port.bound {
            let Some(socket) = binding.socket.upgrade().filter(|socket| may(socket)) else {
                continue;
            };
            let exact = binding.ip == to.ip();
            if !exact && !overlap((binding.ip, binding.is_dual), (to.ip(), false)) {
                continue;
            }
            let connected = match socket.connected_to() {
                Some(peer) if Some(peer) == from => 4,
                Some(_) => continue,
                None => 0,
            };
            let same_family = u32::from(binding.ip.is_ipv4() == to.is_ipv4());
            let score = 1 + same_family + 2 * u32::from(exact) + connected;
            if score > best_score {
                best_score = score;
                best.clear();
            }
            if score == best_score {
                best.push(socket);
            }
        }
        let shares = best.iter().all(|socket| socket.options.reuses_port.get());
        if shares && best.len() > 1 {
            let hash = from.map_or(0, |from| usize::from(from.port()).wrapping_mul(0x9e37) >> 4);
            return best.get(hash % best.len()).cloned();
        }
        best.pop()
    }

    /// Every socket that wants what is sent to a group of this port.
    pub fn each_member(&self, to: SocketAddr, each: &mut dyn FnMut(Rc<Socket>)) {
        let members: Vec<Rc<Socket>> = match self.ports.borrow().get(&to.port()) {
            None => return,
            Some(port) => port
                .bound
                .iter()
                .filter(|binding| {
                    binding.ip == to.ip()
                        || overlap((binding.ip, binding.is_dual), (to.ip(), false))
                })
                .filter_map(|binding| binding.socket.upgrade())
                .collect(),
        };
        members.into_iter().for_each(each);
    }
}

/// Checks that a socket may be bound to an address.
///
/// # Errors
/// `EADDRNOTAVAIL` when it is not this host's.
pub fn check_bindable(ip: IpAddr) -> Result<(), Errno> {
    let is_group = ip.is_multicast() || ip == IpAddr::V4(address::LOOPBACK_BROADCAST);
    if ip.is_unspecified() || address::is_local(ip) || is_group {
        Ok(())
    } else {
        Err(Errno::EADDRNOTAVAIL)
    }
}
