//! rtnetlink(7): what getaddrinfo(3), getifaddrs(3) and `ip` ask for. It tells of `lo` and changes nothing.

use super::{
    Address, Identity, Socket,
    address::route,
    inbox::{Header, Message},
    interfaces,
};
use crate::{
    linux::{Errno, POLLIN, POLLRDNORM},
    machine::guest::Source,
};
use alloc::{rc::Rc, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// Longest request.
const MAX_REQUEST: usize = 64 * 1024;

/// Message types.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
/// Flags.
const MULTI: u16 = 2;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

/// A request.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
    header: &'a [u8],
}

/// Messages that are being written.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    sequence: u32,
    port: u32,
}

impl Answer {
    fn message(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_le_bytes());
        self.bytes.extend_from_slice(&self.port.to_le_bytes());
        self.bytes.extend_from_slice(body);
        for (name, value) in attributes {
            self.bytes.extend_from_slice(&(value.len() as u16 + 4).to_le_bytes());
            self.bytes.extend_from_slice(&name.to_le_bytes());
            self.bytes.extend_from_slice(value);
            self.pad();
        }
        let length = (self.bytes.len() - start) as u32;
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.pad();
    }
    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
    fn link(&mut self, flags: u16) {
        // IFF_LOWER_UP is told here only.
        let mut body = [0; 16];
        body[2..4].copy_from_slice(&interfaces::HARDWARE.to_le_bytes());
        body[4..8].copy_from_slice(&interfaces::INDEX.to_le_bytes());
        body[8..12].copy_from_slice(&(interfaces::FLAGS | 0x1_0000).to_le_bytes());
        self.message(
            16,
            flags,
            &body,
            &[
                (3, b"lo\0"),
                (13, &interfaces::QUEUE.to_le_bytes()),
                (16, &[0]),
                (17, &[0]),
                (4, &interfaces::MTU.to_le_bytes()),
                (27, &0_u32.to_le_bytes()),
                (1, &[0; 6]),
                (2, &[0; 6]),
                (6, b"noqueue\0"),
            ],
        );
    }
    /// The addresses of `lo`, of a family or of all (0).
    fn addresses(&mut self, family: u8) {
        // IFA_F_PERMANENT, RT_SCOPE_HOST.
        let body = |family: u8, prefix: u8| [family, prefix, 0x80, 254, 1, 0, 0, 0];
        let for_ever = [0xff_u8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        let permanent = 0x80_u32.to_le_bytes();
        if matches!(family, 0 | 2) {
            let ip = Ipv4Addr::LOCALHOST.octets();
            let attributes: [(u16, &[u8]); 5] =
                [(1, &ip), (2, &ip), (3, b"lo\0"), (8, &permanent), (6, &for_ever)];
            self.message(20, MULTI, &body(2, 8), &attributes);
        }
        if matches!(family, 0 | 10) {
            let ip = Ipv6Addr::LOCALHOST.octets();
            self.message(20, MULTI, &body(10, 128), &[(1, &ip), (6, &for_ever), (8, &permanent)]);
        }
    }
    /// A route in the table "local", which the kernel has made: `kind` 2 is local, 3 broadcast.
    fn route(&mut self, flags: u16, ip: IpAddr, prefix: u8, kind: u8) {
        let scope = if kind == 3 { 253 } else { 254 };
        let (family, bytes) = match &ip {
            IpAddr::V4(ip) => (2, &ip.octets()[..]),
            IpAddr::V6(ip) => (10, &ip.octets()[..]),
        };
        let body = [family, prefix, 0, 0, 255, 2, scope, kind, 0, 0, 0, 0];
        let (table, source) = (255_u32.to_le_bytes(), Ipv4Addr::LOCALHOST.octets());
        let out = interfaces::INDEX.to_le_bytes();
        let attributes: [(u16, &[u8]); 4] = [(15, &table), (1, bytes), (4, &out), (7, &source)];
        let count = if ip.is_ipv4() { 4 } else { 3 };
        self.message(24, flags, &body, attributes.get(..count).unwrap_or_default());
    }
    fn routes(&mut self, family: u8) {
        if matches!(family, 0 | 2) {
            self.route(MULTI, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, 2);
            self.route(MULTI, IpAddr::V4(Ipv4Addr::LOCALHOST), 32, 2);
            self.route(MULTI, IpAddr::V4(super::address::LOOPBACK_BROADCAST), 32, 3);
        }
        if matches!(family, 0 | 10) {
            self.route(MULTI, IpAddr::V6(Ipv6Addr::LOCALHOST), 128, 2);
        }
    }
    fn error(&mut self, errno: Option<Errno>, request: &Request<'_>) {
        let code = errno.map_or(0, |errno| -i32::from(errno.0));
        let mut body = code.to_le_bytes().to_vec();
        body.extend_from_slice(request.header);
        if errno.is_some() {
            body.extend_from_slice(request.body);
        }
        self.message(ERROR, 0, &body, &[]);
    }
}

/// An attribute of a request.
fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = bytes;
    while let Some([l0, l1, n0, n1]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let value = rest.get(4..length)?;
        if u16::from_le_bytes([*n0, *n1]) & 0x3fff == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Answers a question about one thing.
fn answer_one(request: &Request<'_>, answer: &mut Answer) -> Result<(), Errno> {
    match request.kind {
        GET_LINK => {
            let by_number = request.body.get(4..8).map(|number| number == [1, 0, 0, 0]);
            let name = request.body.get(16..).and_then(|rest| attribute(rest, 3));
            let by_name = name.map(|name| name.strip_suffix(b"\0").unwrap_or(name) == b"lo");
            if by_name.or(by_number) != Some(true) {
                return Err(Errno::ENODEV);
            }
            answer.link(0);
            Ok(())
        }
        GET_ROUTE => {
            let rest = request.body.get(12..).ok_or(Errno::EINVAL)?;
            let to = attribute(rest, 1).ok_or(Errno::ENETUNREACH)?;
            let ip = match (<[u8; 4]>::try_from(to), <[u8; 16]>::try_from(to)) {
                (Ok(v4), _) => IpAddr::V4(v4.into()),
                (_, Ok(v6)) => IpAddr::V6(v6.into()),
                _ => return Err(Errno::EINVAL),
            };
            let prefix = if ip.is_ipv4() { 32 } else { 128 };
            answer.route(0, route(ip)?, prefix, 2);
            Ok(())
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Whether a request asks; all others would change something.
const fn asks(kind: u16) -> bool {
    kind >= 16 && kind % 4 == 2
}

impl Socket {
    /// Gives it a port number: the process's if it is free.
    ///
    /// # Errors
    /// `EINVAL` when it has one, `EADDRINUSE`.
    pub fn bind_netlink(self: &Rc<Self>, port: u32, groups: u32) -> Result<(), Errno> {
        let known = match *self.local.borrow() {
            Address::Netlink(known, _) => known,
            _ => 0,
        };
        if known != 0 && port != 0 && port != known {
            return Err(Errno::EINVAL);
        }
        let mut taken = Vec::new();
        self.network.each(&mut |socket| {
            if let (Address::Netlink(port, _), false) =
                (&*socket.local.borrow(), Rc::ptr_eq(socket, self))
            {
                taken.push(*port);
            }
        });
        let wanted = if port != 0 { port } else { known };
        let port = if wanted != 0 {
            if taken.contains(&wanted) {
                return Err(Errno::EADDRINUSE);
            }
            wanted
        } else {
            let mut candidate = self.owner().0.cast_unsigned();
            while candidate == 0 || taken.contains(&candidate) {
                let last = self.network.netlink_port.get().max(0x8000_0000);
                candidate = last.wrapping_add(1).max(0x8000_0001);
                self.network.netlink_port.set(candidate);
            }
            candidate
        };
        *self.local.borrow_mut() = Address::Netlink(port, groups);
        Ok(())
    }

    /// Sends requests; the answers are in its inbox then.
    pub(super) fn send_netlink(self: &Rc<Self>, source: &mut Source<'_>) -> Result<usize, Errno> {
        let count = source.left();
        if count > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        if self.local.borrow().is_none() {
            self.bind_netlink(0, 0)?;
        }
        let Address::Netlink(port, _) = *self.local.borrow() else { return Err(Errno::EINVAL) };
        let mut bytes = alloc::vec![0; count];
        source.take(&mut bytes)?;
        let mut rest = &bytes[..];
        while let Some(header) = rest.get(..HEADER) {
            let word = |at: usize| {
                let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                u32::from_le_bytes(bytes.unwrap_or_default())
            };
            let length = word(0) as usize;
            let Some(body) = rest.get(HEADER..length) else { break };
            let (kind, flags) = (word(4) as u16, (word(4) >> 16) as u16);
            let request = Request { kind, flags, sequence: word(8), body, header };
            self.answer(&request, port)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(count)
    }

    fn answer(self: &Rc<Self>, request: &Request<'_>, port: u32) -> Result<(), Errno> {
        let mut answer = Answer { bytes: Vec::new(), sequence: request.sequence, port };
        let family = request.body.first().copied().unwrap_or(0);
        if request.kind < 16 {
            // Control messages have no answer but an acknowledgement.
            if request.flags & ACKNOWLEDGE != 0 {
                answer.error(None, request);
            }
        } else if !asks(request.kind) {
            answer.error(Some(Errno::EPERM), request);
        } else if request.flags & DUMP == 0
            || request.flags & DUMP != DUMP && request.kind == GET_LINK
        {
            match answer_one(request, &mut answer) {
                Err(errno) => answer.error(Some(errno), request),
                Ok(()) if request.flags & ACKNOWLEDGE != 0 => answer.error(None, request),
                Ok(()) => {}
            }
        } else {
            match request.kind {
                GET_LINK => answer.link(MULTI),
                GET_ADDRESS => answer.addresses(family),
                GET_ROUTE => answer.routes(family),
                // Neighbours, rules, queues: there are none.
                _ => {}
            }
            self.put_answer(&mut answer)?;
            answer.message(DONE, MULTI, &[0; 4], &[]);
        }
        self.put_answer(&mut answer)
    }

    fn put_answer(&self, answer: &mut Answer) -> Result<(), Errno> {
        let bytes = core::mem::take(&mut answer.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        let mut inbox = self.inbox.borrow_mut();
        if inbox.bytes() + bytes.len() > self.options.receive_buffer.get() as usize {
            return Err(Errno::ENOBUFS);
        }
        let identity: Identity = (0, 0, 0);
        inbox.push(Message {
            bytes,
            files: None,
            sender: Address::Netlink(0, 0),
            identity,
            header: Header::default(),
            sent: 0,
        });
        drop(inbox);
        self.queue.wake_for(POLLIN | POLLRDNORM);
        Ok(())
    }
}
