//! What was sent to a socket and not received yet.

use super::{Address, Identity, Style, bytes::ByteQueue, garbage::InFlight};
use crate::{
    linux::Errno,
    machine::guest::{Sink, Source},
};
use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::net::IpAddr;

/// A message of a datagram or packet socket.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Files that come with it.
    pub files: Option<Box<InFlight>>,
    /// Address of the sender.
    pub sender: Address,
    /// Who the sender is.
    pub identity: Identity,
    /// What IP says of it.
    pub header: Header,
    /// When it was sent, in nanoseconds since 1970; 0 if nobody wants to know.
    pub sent: u64,
}

/// Fields of an IP header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// Destination.
    pub to: Option<IpAddr>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
}

/// A place in a stream where something begins: files, or another sender.
#[derive(Debug)]
struct Mark {
    /// Bytes of the stream before it, from its beginning.
    start: u64,
    /// End of the bytes that were sent with the files.
    end: u64,
    files: Option<Box<InFlight>>,
    identity: Identity,
}

/// An inbox.
#[derive(Debug)]
pub enum Inbox {
    /// Bytes, with marks.
    Stream(Stream),
    /// Messages, and the sum of their bytes.
    Messages(VecDeque<Message>, usize),
}

/// The bytes of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    bytes: ByteQueue,
    /// Bytes that were received before those in `bytes`.
    received: u64,
    marks: VecDeque<Mark>,
    /// Who sent what comes next, and what was put last.
    identities: [Identity; 2],
}

/// What was received beside the bytes.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes copied.
    pub count: usize,
    /// Bytes of the whole message.
    pub whole: usize,
    /// Files.
    pub files: Vec<alloc::rc::Rc<crate::file::OpenFile>>,
    /// Address of the sender.
    pub sender: Address,
    /// Who it is.
    pub identity: Identity,
    /// What IP says of it.
    pub header: Header,
    /// When it was sent.
    pub sent: u64,
}

impl Stream {
    /// Appends bytes.
    ///
    /// # Errors
    /// `EFAULT`, `ENOBUFS`.
    pub fn put(
        &mut self,
        source: &mut Source<'_>,
        count: usize,
        files: Option<Box<InFlight>>,
        identity: Identity,
    ) -> Result<(), Errno> {
        let start = self.received + self.bytes.len() as u64;
        self.bytes.fill(source, count)?;
        if files.is_some() || identity != self.identities[1] {
            if self.bytes.len() == count && files.is_none() {
                self.identities[0] = identity;
            } else {
                let end = start + count as u64;
                self.marks.push_back(Mark { start, end, files, identity });
            }
            self.identities[1] = identity;
        }
        Ok(())
    }

    /// Copies bytes out, up to what has to be received apart; `by_sender` keeps senders apart too.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn take(
        &mut self,
        sink: &mut Sink<'_>,
        skip: usize,
        peek: bool,
        by_sender: bool,
    ) -> Result<Received, Errno> {
        let available = self.bytes.len().saturating_sub(skip);
        let mut count = available.min(sink.room());
        let from = self.received + skip as u64;
        let mut identity = self.identities[0];
        for mark in &self.marks {
            if mark.start <= from {
                identity = mark.identity;
            } else if by_sender && mark.identity != identity {
                count = count.min((mark.start - from) as usize);
            }
            if mark.files.is_some() && mark.end > from {
                count = count.min((mark.end - from) as usize);
                break;
            }
        }
        self.bytes.copy(skip, sink, count)?;
        let until = from + count as u64;
        let mut result = Received { count, whole: count, identity, ..Received::default() };
        for mark in &mut self.marks {
            if mark.start >= until {
                break;
            }
            if peek {
                result.files.extend(mark.files.iter().flat_map(|files| files.copy()));
            } else if let Some(files) = mark.files.take() {
                result.files.extend(files.land());
            }
        }
        if !peek {
            self.skip(count);
        }
        Ok(result)
    }

    /// Forgets bytes.
    fn skip(&mut self, count: usize) {
        self.bytes.skip(count);
        self.received += count as u64;
        while let Some(mark) = self.marks.front() {
            let is_next = mark.start <= self.received;
            let is_over = is_next && (mark.files.is_none() || mark.end <= self.received);
            if is_next {
                self.identities[0] = mark.identity;
            }
            if !is_over {
                break;
            }
            self.marks.pop_front();
        }
    }
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub fn new(style: Style) -> Self {
        if style == Style::Stream {
            Self::Stream(Stream::default())
        } else {
            Self::Messages(VecDeque::new(), 0)
        }
    }
    /// Bytes in it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Stream(stream) => stream.bytes.len(),
            Self::Messages(_, bytes) => *bytes,
        }
    }
    /// Bytes that the next call could receive (FIONREAD).
    #[must_use]
    pub fn readable(&self) -> usize {
        match self {
            Self::Stream(stream) => stream.bytes.len(),
            Self::Messages(messages, _) => {
                messages.front().map_or(0, |message| message.bytes.len())
            }
        }
    }
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.bytes.is_empty(),
            Self::Messages(messages, _) => messages.is_empty(),
        }
    }
    /// Messages in it.
    #[must_use]
    pub fn messages(&self) -> usize {
        match self {
            Self::Stream(_) => 0,
            Self::Messages(messages, _) => messages.len(),
        }
    }
    /// Appends a message.
    pub fn push(&mut self, message: Message) {
        if let Self::Messages(messages, bytes) = self {
            *bytes += message.bytes.len();
            messages.push_back(message);
        }
    }
    /// Copies out of a message; peeking leaves it there and begins `skip` bytes into the inbox.
    ///
    /// # Errors
    /// `EFAULT`; the message stays then.
    pub fn take(
        &mut self,
        sink: &mut Sink<'_>,
        skip: usize,
        peek: bool,
        by_sender: bool,
    ) -> Result<Received, Errno> {
        let (messages, bytes) = match self {
            Self::Stream(stream) => return stream.take(sink, skip, peek, by_sender),
            Self::Messages(messages, bytes) => (messages, bytes),
        };
        let Some(message) = messages.front() else { return Ok(Received::default()) };
        let whole = message.bytes.len();
        let count = whole.min(sink.room());
        sink.put(message.bytes.get(..count).unwrap_or_default())?;
        let mut result = Received {
            count,
            whole,
            identity: message.identity,
            header: message.header,
            sent: message.sent,
            ..Received::default()
        };
        if peek {
            result.sender = message.sender.clone();
            result.files.extend(message.files.iter().flat_map(|files| files.copy()));
        } else if let Some(message) = messages.pop_front() {
            *bytes -= whole;
            result.sender = message.sender;
            if let Some(files) = message.files {
                result.files = files.land();
            }
        }
        Ok(result)
    }
    /// Every message's files.
    pub fn each_flight(&self, each: &mut dyn FnMut(&InFlight)) {
        match self {
            Self::Stream(stream) => {
                stream.marks.iter().filter_map(|mark| mark.files.as_deref()).for_each(each);
            }
            Self::Messages(messages, _) => {
                messages.iter().filter_map(|message| message.files.as_deref()).for_each(each);
            }
        }
    }
    /// Takes everything out, to be dropped when nothing is borrowed any more.
    #[must_use]
    pub fn empty(&mut self) -> Self {
        let empty = match self {
            Self::Stream(_) => Self::Stream(Stream::default()),
            Self::Messages(..) => Self::Messages(VecDeque::new(), 0),
        };
        core::mem::replace(self, empty)
    }
}
