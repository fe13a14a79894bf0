//! Connections: listening, connecting, accepting, sending, ending (tcp(7), unix(7) streams and sequenced packets).

use super::{
    Address, Family, Identity, Style, address,
    garbage::InFlight,
    inbox::{Header, Inbox, Message},
    socket::{Manner, Outgoing, Phase, Shut, Socket},
};
use crate::{
    linux::{Errno, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM},
    machine::guest::Source,
    wait::Stop,
};
use alloc::{
    rc::{Rc, Weak},
    vec::Vec,
};
use core::net::SocketAddr;

/// Longest backlog (net.core.somaxconn).
const MAX_BACKLOG: usize = 4096;

impl Socket {
    /// Begins to listen, or changes the length of the backlog.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EINVAL`, `EADDRINUSE`.
    pub fn listen(self: &Rc<Self>, backlog: usize, identity: Identity) -> Result<(), Errno> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.phase.get() {
            Phase::Listening => {}
            Phase::Fresh | Phase::Closed if self.is_tcp() => {
                self.bind_anywhere()?;
                if let Address::Internet(own) = *self.local.borrow() {
                    self.ports().check_listen(self, own)?;
                }
            }
            Phase::Fresh if !self.local.borrow().is_none() => {}
            _ => return Err(Errno::EINVAL),
        }
        self.shut.set(Shut::default());
        self.owner.set(identity);
        self.backlog.borrow_mut().limit = backlog.min(MAX_BACKLOG);
        self.phase.set(Phase::Listening);
        Ok(())
    }

    /// Connects to a unix socket that listens.
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EISCONN`, `EPROTOTYPE`, `EINVAL`, `EAGAIN`, waits.
    pub fn connect_unix(
        self: &Rc<Self>,
        target: &Rc<Self>,
        identity: Identity,
        manner: Manner<'_>,
    ) -> Result<(), Stop> {
        match self.phase.get() {
            Phase::Fresh => {}
            Phase::Connected | Phase::Closed => return Err(Errno::EISCONN.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        if self.style != target.style {
            return Err(Errno::EPROTOTYPE.into());
        }
        if !target.is_listening() || target.shut.get().receive {
            return Err(Errno::ECONNREFUSED.into());
        }
        let backlog = target.backlog.borrow();
        if backlog.waiting.len() > backlog.limit {
            drop(backlog);
            return Err(manner.stop(&target.queue, POLLOUT, self.options.send_timeout.get()));
        }
        drop(backlog);
        self.owner.set(identity);
        self.join(target);
        Ok(())
    }

    /// Connects to an address of IP.
    ///
    /// # Errors
    /// Those of connect(2); waits.
    pub fn connect_internet(
        self: &Rc<Self>,
        to: SocketAddr,
        manner: Manner<'_>,
    ) -> Result<(), Stop> {
        match self.phase.get() {
            Phase::Connected if self.is_news.replace(false) => return Ok(()),
            Phase::Connected => return Err(Errno::EISCONN.into()),
            Phase::Listening => return Err(Errno::EISCONN.into()),
            Phase::Connecting if manner.non_blocking => return Err(Errno::EALREADY.into()),
            Phase::Connecting => return Err(self.await_room(manner)),
            Phase::Fresh | Phase::Closed => {}
        }
        if let Some(errno) = self.error.take() {
            return Err(errno.into());
        }
        if to.is_ipv4() && self.family == Family::Inet6 && self.options.is_v6_only.get() {
            return Err(Errno::ENETUNREACH.into());
        }
        let to = SocketAddr::new(address::route(to.ip())?, to.port());
        self.bind_anywhere()?;
        self.shut.set(Shut::default());
        let own = self.settle_source(to);
        *self.remote.borrow_mut() = Address::Internet(to);
        let listener = self.ports().find(to, Some(own), Self::is_listening);
        let Some(listener) = listener else {
            *self.remote.borrow_mut() = Address::None;
            if manner.non_blocking {
                self.refuse();
                return Err(Errno::EINPROGRESS.into());
            }
            return Err(Errno::ECONNREFUSED.into());
        };
        let mut backlog = listener.backlog.borrow_mut();
        if backlog.waiting.len() > backlog.limit {
            backlog.connecting.push_back(Rc::downgrade(self));
            self.phase.set(Phase::Connecting);
            drop(backlog);
            return Err(self.await_room(manner));
        }
        drop(backlog);
        self.join(&listener);
        if manner.non_blocking {
            // The handshake of Linux is never over when connect(2) returns.
            self.is_news.set(true);
            return Err(Errno::EINPROGRESS.into());
        }
        Ok(())
    }

    /// The connection attempt has failed.
    fn refuse(&self) {
        self.phase.set(Phase::Closed);
        self.shut.set(Shut { receive: true, send: true });
        self.fail(Errno::ECONNREFUSED);
    }

    /// Waits until the listener has room. Its accept(2) completes the connection.
    fn await_room(&self, manner: Manner<'_>) -> Stop {
        self.is_news.set(true);
        match manner.stop(&self.queue, POLLOUT, self.options.send_timeout.get()) {
            Stop::Errno(_) => Errno::EINPROGRESS.into(),
            stop => stop,
        }
    }

    /// Replaces "any" in the local address by the one that leads to an address; the local address.
    pub(super) fn settle_source(&self, to: SocketAddr) -> SocketAddr {
        let mut local = self.local.borrow_mut();
        let own = local.internet().unwrap_or(to);
        let ip = if own.ip().is_unspecified() { address::source_for(to.ip()) } else { own.ip() };
        let own = SocketAddr::new(ip, own.port());
        *local = Address::Internet(own);
        own
    }

    /// Makes the other end of a connection and puts it into a listener's backlog.
    fn join(self: &Rc<Self>, listener: &Rc<Self>) {
        let owner = listener.owner.get();
        let other = Self::new(&self.network, listener.family, self.style, listener.protocol, owner);
        other.options.inherit(&listener.options);
        let is_tcp = self.is_tcp();
        *other.local.borrow_mut() =
            if is_tcp { self.remote.borrow().clone() } else { listener.local.borrow().clone() };
        *other.remote.borrow_mut() = self.local.borrow().clone();
        other.is_accepted.set(true);
        if let (true, Address::Internet(at)) = (is_tcp, &*other.local.borrow()) {
            other.ports().enter(at.port(), other.options.reuses_address.get());
        }
        if !is_tcp {
            *self.remote.borrow_mut() = listener.local.borrow().clone();
        }
        *self.peer.borrow_mut() = Rc::downgrade(&other);
        *other.peer.borrow_mut() = Rc::downgrade(self);
        other.peer_identity.set(self.owner.get());
        self.peer_identity.set(owner);
        self.phase.set(Phase::Connected);
        other.phase.set(Phase::Connected);
        listener.backlog.borrow_mut().waiting.push_back(other);
        listener.queue.wake_for(POLLIN | POLLRDNORM);
    }

    /// Takes a connection that waits.
    ///
    /// # Errors
    /// `EINVAL`, `EOPNOTSUPP`, `EAGAIN`, waits.
    pub fn accept(self: &Rc<Self>, manner: Manner<'_>) -> Result<Rc<Self>, Stop> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if !self.is_listening() {
            return Err(Errno::EINVAL.into());
        }
        let taken = self.backlog.borrow_mut().waiting.pop_front();
        let Some(socket) = taken else {
            if self.shut.get().receive {
                return Err(Errno::EINVAL.into());
            }
            return Err(manner.stop(&self.queue, POLLIN, self.options.receive_timeout.get()));
        };
        self.admit_next();
        Ok(socket)
    }

    /// There is room in the backlog: the next that waits for it is connected.
    fn admit_next(self: &Rc<Self>) {
        loop {
            let next = self.backlog.borrow_mut().connecting.pop_front();
            let Some(next) = next else { break };
            let next = next.upgrade().filter(|next| next.phase.get() == Phase::Connecting);
            if let Some(next) = next {
                next.join(self);
                next.queue.wake();
                break;
            }
        }
        self.queue.wake_for(POLLOUT);
    }

    /// Sends to the peer; the caller sends SIGPIPE for `EPIPE`. A stream may take a part.
    ///
    /// # Errors
    /// `ENOTCONN`, `EPIPE`, `ECONNRESET`, `EMSGSIZE`, `EAGAIN`, waits; `EFAULT`.
    pub(super) fn send_connected(
        &self,
        source: &mut Source<'_>,
        out: &mut Outgoing,
        manner: Manner<'_>,
    ) -> Result<usize, Stop> {
        let peer = self.peer_for_sending(manner)?;
        let wanted = source.left();
        if self.is_stream() && wanted == 0 {
            return Ok(0);
        }
        let Some(peer) = peer else {
            // The peer is gone: what is sent is answered by a reset (tcp(7)).
            self.reset(Errno::EPIPE);
            return Ok(wanted);
        };
        let limit = self.limit_to(&peer);
        if !self.is_stream() && wanted > limit {
            return Err(Errno::EMSGSIZE.into());
        }
        let mut inbox = peer.inbox.borrow_mut();
        let room = limit.saturating_sub(inbox.bytes());
        // Messages without bytes take room too, or there could be endlessly many.
        let is_full = inbox.messages() >= limit / 256;
        if room == 0 || !self.is_stream() && (room < wanted || is_full) {
            return Err(manner.stop(&self.queue, POLLOUT, self.options.send_timeout.get()));
        }
        let files =
            InFlight::launch(core::mem::take(&mut out.files), &self.network, out.file_limit)?;
        let count = wanted.min(room);
        match &mut *inbox {
            Inbox::Stream(stream) => stream.put(source, count, files, out.identity)?,
            messages => {
                let mut bytes = alloc::vec![0; count];
                source.take(&mut bytes)?;
                messages.push(Message {
                    bytes,
                    files,
                    sender: self.local.borrow().clone(),
                    identity: out.identity,
                    header: Header::default(),
                    sent: 0,
                });
            }
        }
        drop(inbox);
        peer.queue.wake_for(POLLIN | POLLRDNORM);
        Ok(count)
    }

    /// The peer that gets what is sent now; `None` for a TCP peer that is gone.
    fn peer_for_sending(&self, manner: Manner<'_>) -> Result<Option<Rc<Self>>, Stop> {
        let is_tcp = self.is_tcp();
        if self.shut.get().send || self.error.get().is_some() && is_tcp {
            let errno = if is_tcp { self.error.take() } else { None };
            return Err(errno.unwrap_or(Errno::EPIPE).into());
        }
        match self.phase.get() {
            Phase::Connected => {}
            Phase::Connecting => {
                return Err(manner.stop(&self.queue, POLLOUT, self.options.send_timeout.get()));
            }
            _ if is_tcp => return Err(Errno::EPIPE.into()),
            _ => return Err(Errno::ENOTCONN.into()),
        }
        match self.peer() {
            None if !is_tcp => Err(Errno::EPIPE.into()),
            Some(peer) if !is_tcp && peer.shut.get().receive => Err(Errno::EPIPE.into()),
            peer => Ok(peer),
        }
    }

    /// Its connection is broken off.
    pub(super) fn reset(&self, errno: Errno) {
        self.phase.set(Phase::Closed);
        self.shut.set(Shut { receive: true, send: true });
        self.fail(errno);
    }

    /// Shuts directions down.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown(self: &Rc<Self>, how: Shut) -> Result<(), Errno> {
        match self.phase.get() {
            Phase::Fresh | Phase::Closed if self.is_tcp() => return Err(Errno::ENOTCONN),
            Phase::Listening if self.is_tcp() => {
                if how.receive {
                    self.stop_listening();
                    self.phase.set(Phase::Fresh);
                    self.queue.wake();
                }
                return Ok(());
            }
            Phase::Connecting => {
                self.phase.set(Phase::Fresh);
                self.queue.wake();
                return Ok(());
            }
            _ => {}
        }
        self.add_shut(how);
        if let Some(peer) = self.peer().filter(|_| self.has_connections()) {
            // TCP has no way to say that nothing more is received.
            let tells_receive = how.receive && !self.is_tcp();
            peer.add_shut(Shut { receive: how.send, send: tells_receive });
        }
        let is_unconnected = self.family.is_internet()
            && self.style == Style::Datagram
            && self.remote.borrow().is_none();
        if is_unconnected { Err(Errno::ENOTCONN) } else { Ok(()) }
    }

    /// Directions are over now, whoever has ended them.
    fn add_shut(&self, more: Shut) {
        let shut = self.shut.get();
        let after = Shut { receive: shut.receive || more.receive, send: shut.send || more.send };
        if after == shut {
            return;
        }
        self.shut.set(after);
        if after.receive && after.send && self.is_tcp() && self.phase.get() == Phase::Connected {
            self.phase.set(Phase::Closed);
        }
        let mut events = 0;
        if more.receive {
            events |= POLLIN | POLLRDNORM | POLLRDHUP;
        }
        if more.send {
            events |= POLLOUT;
        }
        if after.receive && after.send {
            events |= POLLHUP;
        }
        self.queue.wake_for(events);
    }

    /// Nobody accepts what waits: those connections are broken off.
    pub(super) fn stop_listening(&self) {
        let (waiting, connecting) = {
            let mut backlog = self.backlog.borrow_mut();
            (core::mem::take(&mut backlog.waiting), core::mem::take(&mut backlog.connecting))
        };
        for peer in waiting.iter().filter_map(|socket| socket.peer()) {
            peer.reset(Errno::ECONNRESET);
        }
        let connecting: Vec<Rc<Self>> = connecting.iter().filter_map(Weak::upgrade).collect();
        for socket in connecting {
            if socket.phase.get() == Phase::Connecting {
                socket.refuse();
            }
        }
        drop(waiting);
    }

    /// The last file is closed: tells the peer, and frees the port.
    pub(super) fn end(&self) {
        self.stop_listening();
        if !self.has_connections() {
            return;
        }
        let is_tcp = self.is_tcp();
        let breaks_off = self.inbox.borrow().bytes() > 0
            || !self.inbox.borrow().is_empty()
            || is_tcp && self.options.linger.get() == Some(0);
        let peer = self.peer();
        let was_last = is_tcp && self.shut.get().receive;
        if let Some(peer) = &peer {
            if breaks_off && peer.phase.get() != Phase::Closed {
                peer.reset(Errno::ECONNRESET);
            } else {
                peer.add_shut(Shut { receive: true, send: !is_tcp });
                // Whoever waits for room learns that there is nobody any more.
                peer.queue.wake_for(POLLOUT);
            }
        }
        let lingers = peer.is_some() && !breaks_off && !was_last;
        if let (true, Address::Internet(at)) = (self.is_accepted.get(), &*self.local.borrow()) {
            self.ports().leave(at.port(), self.options.reuses_address.get(), lingers);
        }
    }
}
