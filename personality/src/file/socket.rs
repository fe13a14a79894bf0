//! Unix sockets (unix(7)): streams, datagrams and sequenced packets between processes of the compartment.

use super::OpenFile;
use crate::{
    linux::{Errno, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRNORM},
    machine::guest::{Sink, Source},
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::{Cell, RefCell};

/// Bytes a socket's receive queue holds.
const LIMIT: usize = 208 * 1024;
/// Files in one message (SCM_MAX_FD).
pub const MAX_FILES: usize = 253;

/// Kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_SEQPACKET.
    Packet,
}

/// Who sent something: pid, uid, gid.
pub type Identity = (i32, u32, u32);

/// What is in a receive queue.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    used: usize,
    files: Vec<Rc<OpenFile>>,
    sender: Vec<u8>,
    identity: Identity,
}

/// A socket.
#[derive(Debug)]
pub struct Socket {
    /// Its kind.
    pub style: Style,
    /// Its address, without the family.
    pub name: RefCell<Vec<u8>>,
    peer: RefCell<Weak<Socket>>,
    /// It was connected once (an end without its peer is at its end).
    connected: Cell<bool>,
    received: RefCell<VecDeque<Message>>,
    queued: Cell<usize>,
    /// Connections that wait for accept(2), if it listens.
    backlog: RefCell<Option<(VecDeque<Rc<Socket>>, usize)>>,
    /// Which directions were shut down: receiving, sending.
    shut: Cell<(bool, bool)>,
    /// Who the peer is.
    pub peer_identity: Cell<Identity>,
    /// SO_PASSCRED.
    pub passes_identity: Cell<bool>,
    /// Those who wait.
    pub queue: WaitQueue,
}

/// What was received beside the bytes.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes copied.
    pub count: usize,
    /// Bytes of the whole message.
    pub whole: usize,
    /// Files.
    pub files: Vec<Rc<OpenFile>>,
    /// Address of the sender.
    pub sender: Vec<u8>,
    /// Its identity.
    pub identity: Identity,
}

/// Sockets with abstract names.
#[derive(Debug, Default)]
pub struct Abstract(RefCell<BTreeMap<Vec<u8>, Weak<Socket>>>);

impl Abstract {
    /// Binds a name.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub fn bind(&self, name: &[u8], socket: &Rc<Socket>) -> Result<(), Errno> {
        let mut names = self.0.borrow_mut();
        names.retain(|_, socket| socket.strong_count() > 0);
        if names.contains_key(name) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(name.to_vec(), Rc::downgrade(socket));
        Ok(())
    }
    /// Finds a name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Rc<Socket>> {
        self.0.borrow().get(name).and_then(Weak::upgrade)
    }
}

impl Socket {
    /// An unconnected socket.
    #[must_use]
    pub fn new(style: Style) -> Rc<Self> {
        Rc::new(Self {
            style,
            name: RefCell::new(Vec::new()),
            peer: RefCell::new(Weak::new()),
            connected: Cell::new(false),
            received: RefCell::new(VecDeque::new()),
            queued: Cell::new(0),
            backlog: RefCell::new(None),
            shut: Cell::new((false, false)),
            peer_identity: Cell::new((0, u32::MAX, u32::MAX)),
            passes_identity: Cell::new(false),
            queue: WaitQueue::new(),
        })
    }

    /// Connects two sockets with each other.
    pub fn pair(one: &Rc<Self>, other: &Rc<Self>, identity: Identity) {
        *one.peer.borrow_mut() = Rc::downgrade(other);
        *other.peer.borrow_mut() = Rc::downgrade(one);
        one.connected.set(true);
        other.connected.set(true);
        one.peer_identity.set(identity);
        other.peer_identity.set(identity);
    }

    /// Its peer.
    #[must_use]
    pub fn peer(&self) -> Option<Rc<Self>> {
        self.peer.borrow().upgrade()
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EINVAL`.
    pub fn listen(&self, backlog: usize) -> Result<(), Errno> {
        if self.style == Style::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.connected.get() || self.name.borrow().is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut place = self.backlog.borrow_mut();
        match &mut *place {
            Some((_, limit)) => *limit = backlog.max(1),
            None => *place = Some((VecDeque::new(), backlog.max(1))),
        }
        Ok(())
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.backlog.borrow().is_some()
    }

    /// Connects to a listening socket (or sets a datagram socket's peer).
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EISCONN`, `EPROTOTYPE`, `EAGAIN`, waits.
    pub fn connect(
        self: &Rc<Self>,
        target: &Rc<Self>,
        identity: Identity,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<(), Stop> {
        if self.style != target.style {
            return Err(Errno::EPROTOTYPE.into());
        }
        if self.style == Style::Datagram {
            *self.peer.borrow_mut() = Rc::downgrade(target);
            self.connected.set(true);
            return Ok(());
        }
        if self.connected.get() {
            return Err(Errno::EISCONN.into());
        }
        let mut backlog = target.backlog.borrow_mut();
        let Some((waiting, limit)) = &mut *backlog else { return Err(Errno::ECONNREFUSED.into()) };
        if waiting.len() > *limit {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            target.queue.join(waiter);
            return Err(WAIT);
        }
        let accepted = Self::new(self.style);
        *accepted.name.borrow_mut() = target.name.borrow().clone();
        Self::pair(self, &accepted, identity);
        waiting.push_back(accepted);
        drop(backlog);
        target.queue.wake();
        Ok(())
    }

    /// Takes a connection that waits.
    ///
    /// # Errors
    /// `EINVAL`, `EAGAIN`, waits.
    pub fn accept(&self, non_blocking: bool, waiter: Waiter) -> Result<Rc<Self>, Stop> {
        let mut backlog = self.backlog.borrow_mut();
        let Some((waiting, _)) = &mut *backlog else { return Err(Errno::EINVAL.into()) };
        match waiting.pop_front() {
            Some(socket) => {
                drop(backlog);
                self.queue.wake();
                Ok(socket)
            }
            None if non_blocking => Err(Errno::EAGAIN.into()),
            None => {
                self.queue.join(waiter);
                Err(WAIT)
            }
        }
    }

    /// Sends bytes, and files with them, to the peer or a given socket; the caller sends SIGPIPE for `EPIPE`.
    ///
    /// # Errors
    /// `ENOTCONN`, `EPIPE`, `ECONNREFUSED`, `EMSGSIZE`, `EAGAIN`, waits.
    pub fn send(
        &self,
        source: &mut Source<'_>,
        files: &[Rc<OpenFile>],
        target: Option<Rc<Self>>,
        identity: Identity,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.shut.get().1 {
            return Err(Errno::EPIPE.into());
        }
        let is_stream = self.style == Style::Stream;
        let Some(peer) = target.or_else(|| self.peer()) else {
            let lost =
                if self.style == Style::Datagram { Errno::ECONNREFUSED } else { Errno::EPIPE };
            return Err(if self.connected.get() { lost } else { Errno::ENOTCONN }.into());
        };
        if peer.shut.get().0 {
            return Err(Errno::EPIPE.into());
        }
        let wanted = source.left();
        if !is_stream && wanted > LIMIT {
            return Err(Errno::EMSGSIZE.into());
        }
        let room = LIMIT.saturating_sub(peer.queued.get());
        if (is_stream && room == 0 && wanted > 0) || (!is_stream && room < wanted) {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            peer.queue.join(waiter);
            return Err(WAIT);
        }
        let count = wanted.min(room);
        if is_stream && count == 0 {
            return Ok(0);
        }
        let mut bytes = alloc::vec![0; count];
        source.take(&mut bytes)?;
        peer.queued.set(peer.queued.get() + count);
        let sender = self.name.borrow().clone();
        peer.received.borrow_mut().push_back(Message {
            bytes,
            used: 0,
            files: files.to_vec(),
            sender,
            identity,
        });
        peer.queue.wake();
        Ok(count)
    }

    /// Receives; `peek` leaves it there.
    ///
    /// # Errors
    /// `ENOTCONN`, `EAGAIN`, waits; `EFAULT`.
    pub fn receive(
        &self,
        sink: &mut Sink<'_>,
        peek: bool,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<Received, Stop> {
        let mut received = self.received.borrow_mut();
        if received.is_empty() {
            let is_over = self.shut.get().0
                || (self.connected.get() && self.style != Style::Datagram && self.peer().is_none());
            if is_over || self.peer_has_shut() {
                return Ok(Received::default());
            }
            if self.style == Style::Stream && !self.connected.get() {
                return Err(Errno::EINVAL.into());
            }
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.queue.join(waiter);
            return Err(WAIT);
        }
        let mut result = Received::default();
        let mut index = 0;
        while let Some(message) = received.get_mut(index) {
            // Files begin a new piece of a stream.
            if index > 0 && (!message.files.is_empty() || !result.files.is_empty()) {
                break;
            }
            let rest = message.bytes.get(message.used..).unwrap_or_default();
            let now = rest.len().min(sink.room());
            sink.put(rest.get(..now).unwrap_or_default())?;
            result.count += now;
            result.whole += rest.len();
            result.sender.clone_from(&message.sender);
            result.identity = message.identity;
            result.files.extend(message.files.iter().cloned());
            if !peek {
                message.used += now;
                message.files.clear();
            }
            if self.style != Style::Stream || sink.room() == 0 {
                break;
            }
            index += 1;
        }
        if !peek {
            self.forget_used(&mut received);
        }
        drop(received);
        if !peek {
            self.queue.wake();
            if let Some(peer) = self.peer() {
                peer.queue.wake();
            }
        }
        Ok(result)
    }

    fn forget_used(&self, received: &mut VecDeque<Message>) {
        loop {
            let is_used = received.front().is_some_and(|message| {
                self.style != Style::Stream || message.used == message.bytes.len()
            });
            if !is_used {
                return;
            }
            if let Some(message) = received.pop_front() {
                self.queued.set(self.queued.get().saturating_sub(message.bytes.len()));
            }
            if self.style != Style::Stream {
                return;
            }
        }
    }

    fn peer_has_shut(&self) -> bool {
        self.style != Style::Datagram && self.peer().is_some_and(|peer| peer.shut.get().1)
    }

    /// Shuts directions down (0 receiving, 1 sending, 2 both).
    ///
    /// # Errors
    /// `ENOTCONN`, `EINVAL`.
    pub fn shutdown(&self, how: u64) -> Result<(), Errno> {
        let (receive, send) = self.shut.get();
        if self.peer().is_none() && self.style != Style::Datagram {
            return Err(Errno::ENOTCONN);
        }
        self.shut.set(match how {
            0 => (true, send),
            1 => (receive, true),
            2 => (true, true),
            _ => return Err(Errno::EINVAL),
        });
        self.queue.wake();
        if let Some(peer) = self.peer() {
            peer.queue.wake();
        }
        Ok(())
    }

    /// Bytes that can be received.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.received.borrow().front().map_or(0, |message| message.bytes.len() - message.used)
    }

    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        if let Some((waiting, _)) = &*self.backlog.borrow() {
            return if waiting.is_empty() { 0 } else { POLLIN | POLLRDNORM };
        }
        let mut mask = 0;
        let peer = self.peer();
        let is_over = self.connected.get() && self.style != Style::Datagram && peer.is_none();
        if !self.received.borrow().is_empty()
            || is_over
            || self.shut.get().0
            || self.peer_has_shut()
        {
            mask |= POLLIN | POLLRDNORM;
        }
        if is_over || self.shut.get() == (true, true) {
            mask |= POLLHUP;
        }
        if is_over || self.peer_has_shut() {
            mask |= POLLRDHUP;
        }
        let has_room = peer.is_none_or(|peer| peer.queued.get() < LIMIT);
        if has_room && (self.style == Style::Datagram || self.connected.get()) {
            mask |= POLLOUT | POLLWRNORM;
        }
        mask
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(peer) = self.peer() {
            peer.queue.wake();
        }
    }
}
