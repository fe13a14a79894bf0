//! A socket: what all families share. The life of connections is in `stream`, messages in `datagram`.
//!
//! ```text
//!           bind, listen                  accept
//! Fresh ----------------> Listening ----------------> (a new socket) Connected
//!   |  connect                                            |
//!   '--------> Connecting (the backlog is full) --------> Connected --> shut, shut --> Closed (both sides have ended it, or it was reset)
//! ```
//! Sending puts bytes into the peer's inbox; the peer's queue hears of bytes, this one's of room. Nothing is sent to a socket that is gone: the weak reference to the peer says so.

use super::{
    Address, Family, Identity, Network, Style, UDP_LITE,
    inbox::{Inbox, Received},
    options::Options,
};
use crate::{
    file::OpenFile,
    linux::{
        Errno, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM,
    },
    machine::guest::Sink,
    task::Task,
    wait::{Stop, WaitQueue},
};
use alloc::{
    collections::VecDeque,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
};

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not connected.
    Fresh,
    /// It listens.
    Listening,
    /// It waits for room in a backlog.
    Connecting,
    /// It is connected, or was until its peer went.
    Connected,
    /// Its connection is over in both directions.
    Closed,
}

/// Directions that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shut {
    /// Nothing more is received, beyond what is there.
    pub receive: bool,
    /// Nothing more can be sent.
    pub send: bool,
}

/// Connections that wait for accept(2).
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) waiting: VecDeque<Rc<Socket>>,
    pub(super) limit: usize,
    /// Sockets that wait for room.
    pub(super) connecting: VecDeque<Weak<Socket>>,
}

/// A socket.
#[derive(Debug)]
pub struct Socket {
    /// Its number, among all.
    pub number: u64,
    /// What it shares.
    pub network: Rc<Network>,
    /// Its family.
    pub family: Family,
    /// Its kind.
    pub style: Style,
    /// Protocol number.
    pub protocol: u32,
    /// Its options.
    pub options: Options,
    /// The address it is bound to.
    pub local: RefCell<Address>,
    /// The address it is connected to.
    pub remote: RefCell<Address>,
    pub(super) peer: RefCell<Weak<Self>>,
    /// Where it stands.
    pub phase: Cell<Phase>,
    /// Its connection was made and connect(2) has not said so.
    pub(super) is_news: Cell<bool>,
    /// It was accepted: its port is its listener's.
    pub(super) is_accepted: Cell<bool>,
    /// It chose its port itself.
    pub(super) is_bound_by_itself: Cell<bool>,
    pub(super) shut: Cell<Shut>,
    /// What SO_ERROR says: something that went wrong when nobody waited for it.
    pub(super) error: Cell<Option<Errno>>,
    pub(super) inbox: RefCell<Inbox>,
    pub(super) backlog: RefCell<Backlog>,
    /// Unix datagram sockets that found the inbox full.
    pub(super) blocked: RefCell<Vec<Weak<Self>>>,
    /// Whose it is: who created it, or bound it to listen.
    pub(super) owner: Cell<Identity>,
    /// Who the peer is (SO_PEERCRED).
    pub peer_identity: Cell<Identity>,
    /// Those who wait.
    pub queue: WaitQueue,
}

/// How a call waits.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// It does not.
    pub non_blocking: bool,
    /// Who waits.
    pub task: &'a Task,
}

impl Manner<'_> {
    /// What a call that cannot go on returns, having joined a queue for events; `timeout` in nanoseconds, 0 for none.
    pub(super) fn stop(&self, queue: &WaitQueue, events: u32, timeout: u64) -> Stop {
        if self.non_blocking {
            return Errno::EAGAIN.into();
        }
        let mut deadline = u64::MAX;
        if timeout > 0 {
            deadline = self.task.call_begun().saturating_add(rt::clock::ticks(timeout));
            if rt::clock::now() >= deadline {
                return Errno::EAGAIN.into();
            }
        }
        queue.join_for(self.task.waiter(), events | POLLERR | POLLHUP);
        Stop::Wait(deadline)
    }
}

/// What a message carries beside its bytes.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Where to, if not to the peer.
    pub to: Option<Address>,
    /// A unix socket that the address names.
    pub target: Option<Rc<Socket>>,
    /// Files.
    pub files: Vec<Rc<OpenFile>>,
    /// Who sends.
    pub identity: Identity,
    /// The sender's RLIMIT_NOFILE.
    pub file_limit: u64,
    /// Time to live or hop limit, and type of service or traffic class, if given.
    pub ttl: Option<u8>,
    /// See `ttl`.
    pub tos: Option<u8>,
}

impl Socket {
    /// An unconnected socket of a process.
    #[must_use]
    pub fn new(
        network: &Rc<Network>,
        family: Family,
        style: Style,
        protocol: u32,
        owner: Identity,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak| Self {
            number: network.register(weak),
            network: network.clone(),
            family,
            style,
            protocol,
            options: Options::new(family, style),
            local: RefCell::default(),
            remote: RefCell::default(),
            peer: RefCell::new(Weak::new()),
            phase: Cell::new(Phase::Fresh),
            is_news: Cell::new(false),
            is_accepted: Cell::new(false),
            is_bound_by_itself: Cell::new(false),
            shut: Cell::default(),
            error: Cell::new(None),
            inbox: RefCell::new(Inbox::new(style)),
            backlog: RefCell::default(),
            blocked: RefCell::default(),
            owner: Cell::new(owner),
            peer_identity: Cell::new((0, u32::MAX, u32::MAX)),
            queue: WaitQueue::new(),
        })
    }

    /// Whether it is TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.family.is_internet() && self.style == Style::Stream
    }
    /// Whether it has connections.
    #[must_use]
    pub fn has_connections(&self) -> bool {
        self.style != Style::Datagram
    }
    /// Whether it is a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.style == Style::Stream
    }
    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.phase.get() == Phase::Listening
    }
    /// Whether it takes both IP families at an address.
    #[must_use]
    pub fn is_dual(&self, ip: IpAddr) -> bool {
        self.family == Family::Inet6
            && !self.options.is_v6_only.get()
            && ip.is_ipv6()
            && ip.is_unspecified()
    }
    /// Its peer, while it lives.
    #[must_use]
    pub fn peer(&self) -> Option<Rc<Self>> {
        self.peer.borrow().upgrade()
    }
    /// The IP address it is connected to.
    #[must_use]
    pub fn connected_to(&self) -> Option<SocketAddr> {
        match &*self.remote.borrow() {
            Address::Internet(address) => Some(*address),
            _ => None,
        }
    }
    /// Who owns it.
    #[must_use]
    pub const fn owner(&self) -> Identity {
        self.owner.get()
    }
    /// Directions that are over.
    #[must_use]
    pub const fn shut(&self) -> Shut {
        self.shut.get()
    }
    /// Takes the error that SO_ERROR says.
    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        self.error.take()
    }
    /// Connections that wait, and how many may.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        let backlog = self.backlog.borrow();
        (backlog.waiting.len(), backlog.limit)
    }
    /// Bytes that the next call could receive.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.inbox.borrow().readable()
    }
    /// Bytes that were sent and not received.
    #[must_use]
    pub fn unsent(&self) -> usize {
        if self.has_connections() {
            self.peer().map_or(0, |peer| peer.inbox.borrow().bytes())
        } else {
            0
        }
    }
    /// The table of its ports.
    pub(super) fn ports(&self) -> &super::ports::Ports {
        match self.protocol {
            UDP_LITE => &self.network.udp_lite,
            _ if self.is_stream() => &self.network.tcp,
            _ => &self.network.udp,
        }
    }

    /// Binds an internet socket; port 0 is any.
    ///
    /// # Errors
    /// `EINVAL` if it is bound, `EADDRNOTAVAIL`, `EADDRINUSE`, `EAFNOSUPPORT`.
    pub fn bind_internet(self: &Rc<Self>, address: SocketAddr) -> Result<(), Errno> {
        if !self.local.borrow().is_none() || self.phase.get() != Phase::Fresh {
            return Err(Errno::EINVAL);
        }
        if address.is_ipv4() && self.family == Family::Inet6 && self.options.is_v6_only.get() {
            return Err(Errno::EINVAL);
        }
        super::ports::check_bindable(address.ip())?;
        let uid = self.owner.get().1;
        let port = self.ports().bind(self, address.ip(), address.port(), uid)?;
        *self.local.borrow_mut() = Address::Internet(SocketAddr::new(address.ip(), port));
        self.is_bound_by_itself.set(address.port() == 0);
        Ok(())
    }

    /// Gives it a port if it has none, at the family's "any" address.
    pub(super) fn bind_anywhere(self: &Rc<Self>) -> Result<(), Errno> {
        if !self.local.borrow().is_none() {
            return Ok(());
        }
        let ip = match self.family {
            Family::Inet6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
        };
        self.bind_internet(SocketAddr::new(ip, 0)).map_err(|errno| match errno {
            Errno::EADDRINUSE => Errno::EAGAIN,
            errno => errno,
        })
    }

    /// Connects two fresh sockets with each other (socketpair(2)).
    pub fn pair(one: &Rc<Self>, other: &Rc<Self>, identity: Identity) {
        for (from, to) in [(one, other), (other, one)] {
            *from.peer.borrow_mut() = Rc::downgrade(to);
            from.peer_identity.set(identity);
            from.phase.set(Phase::Connected);
        }
    }

    /// Something went wrong when nobody waited for it.
    pub(super) fn fail(&self, errno: Errno) {
        self.error.set(Some(errno));
        self.queue.wake();
    }

    /// Receives.
    ///
    /// # Errors
    /// `ENOTCONN`, `EINVAL`, `EAGAIN`, a pending error; waits; `EFAULT`.
    pub fn receive(
        &self,
        sink: &mut Sink<'_>,
        skip: usize,
        peek: bool,
        manner: Manner<'_>,
    ) -> Result<Received, Stop> {
        let by_message = !self.has_connections();
        if by_message && let Some(errno) = self.error.take() {
            return Err(errno.into());
        }
        let mut inbox = self.inbox.borrow_mut();
        let available = inbox.bytes() > skip || !self.is_stream() && !inbox.is_empty();
        if !available {
            drop(inbox);
            return self.receive_nothing(manner);
        }
        if self.is_stream() && sink.room() == 0 {
            return Ok(Received::default());
        }
        let received = inbox.take(sink, skip, peek, self.options.passes_identity.get())?;
        let left = inbox.bytes();
        drop(inbox);
        if !peek {
            self.tell_room(left);
        }
        Ok(received)
    }

    /// What receiving from an empty inbox gives.
    fn receive_nothing(&self, manner: Manner<'_>) -> Result<Received, Stop> {
        if let Some(errno) = self.error.take() {
            return Err(errno.into());
        }
        if self.shut.get().receive {
            return Ok(Received::default());
        }
        match self.phase.get() {
            Phase::Closed => return Ok(Received::default()),
            Phase::Fresh | Phase::Listening if self.has_connections() => {
                let is_unix_stream = self.family == Family::Unix && self.is_stream();
                let errno = if is_unix_stream { Errno::EINVAL } else { Errno::ENOTCONN };
                return Err(errno.into());
            }
            _ => {}
        }
        Err(manner.stop(&self.queue, POLLIN | POLLRDHUP, self.options.receive_timeout.get()))
    }

    /// There is room in the inbox: whoever sends here may go on.
    fn tell_room(&self, left: usize) {
        if self.has_connections() {
            if let Some(peer) = self.peer()
                && peer.is_writable_with(self, left)
            {
                peer.queue.wake_for(POLLOUT | POLLWRNORM);
            }
        } else if self.family == Family::Unix {
            self.queue.wake_for(POLLOUT);
            for sender in self.blocked.take().iter().filter_map(Weak::upgrade) {
                sender.queue.wake_for(POLLOUT | POLLWRNORM);
            }
        }
    }

    /// Bytes that may be on their way from this socket to its peer.
    pub(super) fn limit_to(&self, peer: &Self) -> usize {
        let own = self.options.send_buffer.get() as usize;
        if self.is_tcp() { own + peer.options.receive_buffer.get() as usize } else { own }
    }

    /// Whether poll(2) says that it can send, with so many bytes in the peer's inbox.
    fn is_writable_with(&self, peer: &Self, queued: usize) -> bool {
        2 * queued <= self.limit_to(peer)
    }

    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        let mut mask = if self.error.get().is_some() { POLLERR } else { 0 };
        let phase = self.phase.get();
        if phase == Phase::Listening {
            let waits = !self.backlog.borrow().waiting.is_empty();
            return mask | if waits { POLLIN | POLLRDNORM } else { 0 };
        }
        let shut = self.shut.get();
        let is_unconnected = matches!(phase, Phase::Fresh | Phase::Closed);
        if shut.receive && shut.send || self.has_connections() && is_unconnected {
            mask |= POLLHUP;
        }
        if phase == Phase::Connecting {
            return mask;
        }
        if shut.receive {
            mask |= POLLIN | POLLRDNORM | POLLRDHUP;
        } else if self.has_enough() {
            mask |= POLLIN | POLLRDNORM;
        }
        if self.can_send(shut) {
            mask |= POLLOUT | POLLWRNORM;
            if self.family == Family::Unix {
                mask |= POLLWRBAND;
            }
        }
        mask
    }

    fn has_enough(&self) -> bool {
        let inbox = self.inbox.borrow();
        match &*inbox {
            Inbox::Stream(_) => {
                let wanted = self.options.low_water.get().max(1) as usize;
                inbox.bytes() >= wanted.min(self.options.receive_buffer.get() as usize)
            }
            Inbox::Messages(messages, _) => !messages.is_empty(),
        }
    }

    fn can_send(&self, shut: Shut) -> bool {
        if shut.send {
            return true;
        }
        let Some(peer) = self.peer() else { return true };
        if self.has_connections() {
            let queued = peer.inbox.borrow().bytes();
            self.is_writable_with(&peer, queued)
        } else {
            !self.finds_full(&peer)
        }
    }

    /// Takes everything out of its inbox, and out of those of connections that wait (garbage collection).
    pub(super) fn forget_messages(socket: &Rc<Self>) {
        let mut emptied = Vec::new();
        if let Ok(mut inbox) = socket.inbox.try_borrow_mut() {
            emptied.push(inbox.empty());
        }
        let waiting = core::mem::take(&mut socket.backlog.borrow_mut().waiting);
        // Dropped last, when nothing is borrowed.
        drop(emptied);
        drop(waiting);
    }

    /// Its inbox and those of connections that wait; false if one of them is in use.
    pub(super) fn each_inbox(&self, each: &mut dyn FnMut(&Inbox)) -> bool {
        let (Ok(inbox), Ok(backlog)) = (self.inbox.try_borrow(), self.backlog.try_borrow()) else {
            return false;
        };
        each(&inbox);
        backlog.waiting.iter().all(|waiting| match waiting.inbox.try_borrow() {
            Ok(inbox) => {
                each(&inbox);
                true
            }
            Err(_) => false,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.unregister(self);
        self.end();
        match &*self.local.borrow() {
            Address::Internet(address) if !self.is_accepted.get() => {
                self.ports().release(self, address.port());
            }
            Address::Unix(name) if !self.is_accepted.get() => self.network.forget_name(name),
            _ => {}
        }
        for sender in self.blocked.take().iter().filter_map(Weak::upgrade) {
            sender.queue.wake();
        }
        let messages = self.inbox.get_mut().empty();
        drop(messages);
        if self.family == Family::Unix && self.network.flight.is_collection_due() {
            super::garbage::collect(&self.network);
        }
    }
}
