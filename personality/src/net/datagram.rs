//! Datagrams: udp(7) and unix(7), and which way a send goes.

use super::{
    Address, Family, Style, address,
    garbage::InFlight,
    inbox::{Header, Message},
    socket::{Manner, Outgoing, Phase, Shut, Socket},
};
use crate::{
    linux::{Errno, POLLIN, POLLOUT, POLLRDNORM},
    machine::guest::Source,
    system::time,
    wait::Stop,
};
use alloc::rc::Rc;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Longest payload of UDP over IPv4 and IPv6.
const MAX_UDP: [usize; 2] = [65507, 65527];
/// What a message costs of a buffer beside its bytes.
const OVERHEAD: usize = 512;
/// Messages in the inbox of a unix datagram socket beyond which a sender waits (net.unix.max_dgram_qlen).
const MAX_MESSAGES: usize = 10;

impl Socket {
    /// Sends; the caller sends SIGPIPE for `EPIPE`.
    ///
    /// # Errors
    /// Those of send(2); waits.
    pub fn send(
        self: &Rc<Self>,
        source: &mut Source<'_>,
        out: &mut Outgoing,
        manner: Manner<'_>,
    ) -> Result<usize, Stop> {
        match (self.family, self.style) {
            (Family::Netlink, _) => self.send_netlink(source).map_err(Stop::from),
            (Family::Unix, Style::Datagram) => self.send_unix_datagram(source, out, manner),
            (_, Style::Datagram) => self.send_udp(source, out).map_err(Stop::from),
            _ => self.send_connected(source, out, manner),
        }
    }

    /// Sets the peer of a datagram socket; `None` forgets it.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EPROTOTYPE`, `EACCES`, `EAGAIN`.
    pub fn connect_datagram(
        self: &Rc<Self>,
        to: &Address,
        target: Option<&Rc<Self>>,
    ) -> Result<(), Errno> {
        match (to, target) {
            (Address::Internet(to), _) => {
                if is_broadcast(to.ip()) && !self.options.may_broadcast.get() {
                    return Err(Errno::EACCES);
                }
                let ip = address::route(to.ip())?;
                self.bind_anywhere()?;
                let to = SocketAddr::new(ip, to.port());
                self.settle_source(to);
                *self.remote.borrow_mut() = Address::Internet(to);
                self.phase.set(Phase::Connected);
            }
            (_, Some(target)) => {
                if target.style != self.style {
                    return Err(Errno::EPROTOTYPE);
                }
                if !target.accepts_from(self) {
                    return Err(Errno::EPERM);
                }
                *self.peer.borrow_mut() = Rc::downgrade(target);
                *self.remote.borrow_mut() = target.local.borrow().clone();
                self.phase.set(Phase::Connected);
            }
            _ => self.disconnect(),
        }
        // What happened to the peer before is nobody's business now.
        self.error.set(None);
        Ok(())
    }

    fn disconnect(self: &Rc<Self>) {
        *self.peer.borrow_mut() = alloc::rc::Weak::new();
        *self.remote.borrow_mut() = Address::None;
        self.phase.set(Phase::Fresh);
        let local = self.local.borrow().internet();
        if let Some(local) = local.filter(|_| self.is_bound_by_itself.get()) {
            self.ports().release(self, local.port());
            *self.local.borrow_mut() = Address::None;
        }
    }

    /// Breaks a connection off, so that the socket can be used again (connect(2) with AF_UNSPEC).
    pub fn dissolve(self: &Rc<Self>) {
        if let Some(peer) = self.peer() {
            peer.reset(Errno::ECONNRESET);
        }
        self.stop_listening();
        let old = self.inbox.borrow_mut().empty();
        drop(old);
        self.shut.set(Shut::default());
        self.error.set(None);
        self.disconnect();
        self.queue.wake();
    }

    /// Whether a datagram from a socket is taken: a connected socket hears its peer only.
    fn accepts_from(&self, sender: &Rc<Self>) -> bool {
        self.phase.get() != Phase::Connected
            || self.peer().is_none_or(|peer| Rc::ptr_eq(&peer, sender))
    }

    /// Whether a unix datagram socket has no room; the sender is told when it has.
    pub(super) fn finds_full(&self, target: &Self) -> bool {
        let talks_back = core::ptr::eq(target.peer.borrow().as_ptr(), self);
        let is_full = !talks_back && target.inbox.borrow().messages() > MAX_MESSAGES;
        if is_full {
            self.note_blocked(target);
        }
        is_full
    }

    fn note_blocked(&self, target: &Self) {
        let mut blocked = target.blocked.borrow_mut();
        if !blocked.iter().any(|known| core::ptr::eq(known.as_ptr(), self)) {
            blocked.retain(|known| known.strong_count() > 0);
            blocked.push(self.network.weak(self.number));
        }
    }

    fn send_unix_datagram(
        self: &Rc<Self>,
        source: &mut Source<'_>,
        out: &mut Outgoing,
        manner: Manner<'_>,
    ) -> Result<usize, Stop> {
        if self.shut.get().send {
            return Err(Errno::EPIPE.into());
        }
        let target = match (&out.target, self.peer()) {
            (Some(target), _) => target.clone(),
            (None, Some(peer)) => peer,
            (None, None) if self.phase.get() == Phase::Connected => {
                self.disconnect();
                return Err(Errno::ECONNREFUSED.into());
            }
            (None, None) => return Err(Errno::ENOTCONN.into()),
        };
        if target.style != self.style {
            return Err(Errno::EPROTOTYPE.into());
        }
        if !target.accepts_from(self) {
            return Err(Errno::EPERM.into());
        }
        if target.shut.get().receive {
            return Err(Errno::EPIPE.into());
        }
        let wanted = source.left();
        let limit = self.options.send_buffer.get() as usize;
        if wanted + 32 > limit {
            return Err(Errno::EMSGSIZE.into());
        }
        let inbox = target.inbox.borrow();
        let used = inbox.bytes() + OVERHEAD * inbox.messages();
        let is_full = inbox.messages() > MAX_MESSAGES || used > 0 && used + wanted > limit;
        drop(inbox);
        if is_full {
            self.note_blocked(&target);
            return Err(manner.stop(&self.queue, POLLOUT, self.options.send_timeout.get()));
        }
        let files =
            InFlight::launch(core::mem::take(&mut out.files), &self.network, out.file_limit)?;
        let mut bytes = alloc::vec![0; wanted];
        source.take(&mut bytes)?;
        target.deliver(Message {
            bytes,
            files,
            sender: self.local.borrow().clone(),
            identity: out.identity,
            header: Header::default(),
            sent: target.time_of_arrival(),
        });
        Ok(wanted)
    }

    fn time_of_arrival(&self) -> u64 {
        if self.options.stamps() { time::now() } else { 0 }
    }

    fn deliver(&self, message: Message) {
        self.inbox.borrow_mut().push(message);
        self.queue.wake_for(POLLIN | POLLRDNORM);
    }

    /// Where a datagram goes, and what it says of itself.
    fn destination(self: &Rc<Self>, out: &Outgoing) -> Result<(SocketAddr, bool), Errno> {
        let to = match &out.to {
            Some(Address::Internet(to)) => *to,
            Some(_) => return Err(Errno::EAFNOSUPPORT),
            None => self.connected_to().ok_or(Errno::EDESTADDRREQ)?,
        };
        if to.is_ipv4() && self.family == Family::Inet6 && self.options.is_v6_only.get() {
            return Err(Errno::ENETUNREACH);
        }
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        if to.ip().is_multicast() {
            // There is a way only for those who have chosen the interface.
            let chosen = self.options.multicast_interface.get();
            return if chosen { Ok((to, true)) } else { Err(Errno::ENETUNREACH) };
        }
        if is_broadcast(to.ip()) {
            let is_ours = to.ip() == IpAddr::V4(address::LOOPBACK_BROADCAST);
            return match (is_ours, self.options.may_broadcast.get()) {
                (false, _) => Err(Errno::ENETUNREACH),
                (true, false) => Err(Errno::EACCES),
                (true, true) => Ok((to, true)),
            };
        }
        Ok((SocketAddr::new(address::route(to.ip())?, to.port()), false))
    }

    fn send_udp(
        self: &Rc<Self>,
        source: &mut Source<'_>,
        out: &mut Outgoing,
    ) -> Result<usize, Errno> {
        if let Some(errno) = self.error.take() {
            return Err(errno);
        }
        if self.shut.get().send {
            return Err(Errno::EPIPE);
        }
        let wanted = source.left();
        let (to, is_group) = self.destination(out)?;
        if wanted > MAX_UDP[usize::from(to.is_ipv6())] {
            return Err(Errno::EMSGSIZE);
        }
        self.bind_anywhere()?;
        let own = self.local.borrow().internet().unwrap_or(to);
        let ip = if own.ip().is_unspecified() { address::source_for(to.ip()) } else { own.ip() };
        let from = SocketAddr::new(ip, own.port());
        let header = Header {
            to: Some(to.ip()),
            ttl: out.ttl.unwrap_or_else(|| self.options.time_to_live(to.ip().is_multicast())),
            tos: out.tos.unwrap_or_else(|| self.options.type_of_service()),
        };
        if is_group {
            return self.send_to_group(source, to, from, header, out.identity);
        }
        let target = self.ports().find(to, Some(from), |socket| socket.takes_family_of(to.ip()));
        let Some(target) = target else {
            // "Port unreachable" comes back: only a socket that has a peer knows whom it concerns.
            let is_connected = self.phase.get() == Phase::Connected;
            if is_connected || self.options.reports_errors() {
                self.fail(Errno::ECONNREFUSED);
            }
            return Ok(wanted);
        };
        if target.shut.get().receive || !target.has_room_for(wanted) {
            return Ok(wanted);
        }
        let mut bytes = alloc::vec![0; wanted];
        source.take(&mut bytes)?;
        target.deliver(Message {
            bytes,
            files: None,
            sender: Address::Internet(from),
            identity: out.identity,
            header,
            sent: target.time_of_arrival(),
        });
        Ok(wanted)
    }

    fn send_to_group(
        &self,
        source: &mut Source<'_>,
        to: SocketAddr,
        from: SocketAddr,
        header: Header,
        identity: super::Identity,
    ) -> Result<usize, Errno> {
        let mut bytes = alloc::vec![0; source.left()];
        source.take(&mut bytes)?;
        let is_heard = !to.ip().is_multicast() || self.options.loops_multicast();
        self.ports().each_member(to, &mut |target| {
            let is_member = !to.ip().is_multicast() || target.options.is_member(to.ip());
            let is_meant = is_heard && is_member && target.takes_family_of(to.ip());
            if is_meant && target.has_room_for(bytes.len()) {
                target.deliver(Message {
                    bytes: bytes.clone(),
                    files: None,
                    sender: Address::Internet(from),
                    identity,
                    header,
                    sent: target.time_of_arrival(),
                });
            }
        });
        Ok(bytes.len())
    }

    fn takes_family_of(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.family == Family::Inet || !self.options.is_v6_only.get(),
            IpAddr::V6(_) => self.family == Family::Inet6,
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let inbox = self.inbox.borrow();
        let used = inbox.bytes() + OVERHEAD * inbox.messages();
        used == 0 || used + bytes + OVERHEAD <= self.options.receive_buffer.get() as usize
    }
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::BROADCAST) || ip == IpAddr::V4(address::LOOPBACK_BROADCAST)
}
