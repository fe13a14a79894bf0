//! The ports: rings shared with programs, and the movement of bytes between them and the console.

use crate::{
    INTERRUPT_BIT,
    switch::{Sink, Switch},
    virtio::console::Console,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use contract::{
    channel::{Frame, HEADER_LENGTH},
    control::call,
    ring::PORT_PAGES,
};
use rt::{
    Domain, Notification, Space,
    abi::{
        Rights,
        space::{Access, SpaceUse},
    },
    message::{Message, Received},
    port::{Port, Side},
};

/// First bit of the Notification that ports ring.
const FIRST_BIT: u32 = 2;
/// Bits that ports share.
const BITS: u32 = 60;
/// Most ports.
const MAX_PORTS: usize = 4096;

/// A port and what is behind it.
struct Open {
    port: Port,
    space: Space,
    doorbell: Notification,
    /// Bits of the Notification that the program rings.
    bit: u32,
    /// The program is gone: what it said is still sent, then the channel closes.
    is_leaving: bool,
}

/// All ports.
pub(crate) struct Ports {
    notification: Notification,
    switch: Switch,
    open: BTreeMap<u32, Open>,
    /// Channels that may have something to send, in turn.
    active: VecDeque<u32>,
    is_active: BTreeSet<u32>,
    next_bit: u32,
    /// Channels that ring each bit.
    ringers: BTreeMap<u32, Vec<u32>>,
}

/// The switch's view of the ports.
struct Rings<'a>(&'a BTreeMap<u32, Open>);

impl Sink for Rings<'_> {
    fn accept(&mut self, channel: u32, bytes: &[u8]) -> bool {
        // A program that has gone needs nothing any more.
        self.0
            .get(&channel)
            .is_none_or(|open| open.port.write(bytes).is_ok_and(|count| count == bytes.len()))
    }
    fn end(&mut self, channel: u32) {
        if let Some(open) = self.0.get(&channel) {
            open.port.close();
        }
    }
}

impl Ports {
    /// No ports yet; programs will ring a Notification.
    pub(crate) fn new(notification: Notification) -> Self {
        Self {
            notification,
            switch: Switch::new(),
            open: BTreeMap::new(),
            active: VecDeque::new(),
            is_active: BTreeSet::new(),
            next_bit: 0,
            ringers: BTreeMap::new(),
        }
    }

    /// Takes the bits of doorbells.
    pub(crate) fn note(&mut self, bits: u64) {
        if bits & !(1 << INTERRUPT_BIT) == 0 {
            return;
        }
        for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
            for channel in self.ringers.get(&bit).into_iter().flatten() {
                if self.is_active.insert(*channel) {
                    self.active.push_back(*channel);
                }
            }
        }
    }

    fn activate(&mut self, channel: u32) {
        if self.is_active.insert(channel) {
            self.active.push_back(channel);
        }
    }

    /// Carries a call out.
    pub(crate) fn call(&mut self, received: &Received) -> Message {
        let [channel, bits, ..] = received.words;
        let Ok(channel) = u32::try_from(channel) else {
            return Message::new(call::UNKNOWN, [0; 4]);
        };
        match received.label {
            call::OPEN_PORT => match received.cap(0) {
                Some(doorbell) => self.open_port(channel, Notification(doorbell), bits),
                None => Message::new(call::UNKNOWN, [0; 4]),
            },
            call::CLOSE_PORT => match self.open.get_mut(&channel) {
                Some(open) => {
                    open.is_leaving = true;
                    self.activate(channel);
                    Message::new(0, [0; 4])
                }
                None => Message::new(call::UNKNOWN, [0; 4]),
            },
            _ => Message::new(call::UNKNOWN, [0; 4]),
        }
    }

    fn open_port(&mut self, channel: u32, received: Notification, bits: u64) -> Message {
        if channel == 0 || self.switch.is_open(channel) {
            return Message::new(call::TAKEN, [0; 4]);
        }
        let full = self.open.len() >= MAX_PORTS;
        match if full {
            Err(rt::Error::OutOfObjects)
        } else {
            self.make_port(channel, received, bits)
        } {
            Ok((space, bit)) => {
                let rights = Rights::MAP_READ | Rights::MAP_WRITE | Rights::COPY;
                let message = Message::new(0, [1 << bit, 0, 0, 0]).with(space.slot(), rights);
                message.with(self.notification.slot(), Rights::SEND | Rights::COPY)
            }
            Err(_) => Message::new(call::OUT_OF_MEMORY, [0; 4]),
        }
    }

    fn make_port(
        &mut self,
        channel: u32,
        received: Notification,
        bits: u64,
    ) -> rt::Result<(Space, u32)> {
        // The window's slot is emptied after the call; the doorbell is kept in one of our own.
        let slot = rt::slots::take()?;
        rt::object::copy(received.slot(), Domain::OWN, slot, Rights::SEND)?;
        let doorbell = Notification(slot);
        let space =
            Space::create(Domain::OWN, SpaceUse::Hold, None).inspect_err(|_| doorbell.forget())?;
        let made = space
            .zero(0, PORT_PAGES, Access::READ | Access::WRITE, 0)
            .and_then(|()| Port::open(space, Side::Control, doorbell, bits));
        let port = match made {
            Ok(port) if self.switch.open(channel) => port,
            result => {
                let _ = space.destroy();
                doorbell.forget();
                return Err(result.err().unwrap_or(rt::Error::OutOfObjects));
            }
        };
        let bit = FIRST_BIT + self.next_bit % BITS;
        self.next_bit = self.next_bit.wrapping_add(1);
        self.ringers.entry(bit).or_default().push(channel);
        self.open.insert(channel, Open { port, space, doorbell, bit, is_leaving: false });
        self.activate(channel);
        Ok((space, bit))
    }

    /// Moves everything that can be moved between the console and the rings.
    pub(crate) fn pump(&mut self, console: &mut Console) {
        console.receive(|bytes| self.switch.receive(bytes, &mut Rings(&self.open)));
        for channel in &self.active {
            if let Some(open) = self.open.get(channel) {
                self.switch.grant(*channel, open.port.writable().unwrap_or(0));
            }
        }
        console.send(|buffer| self.fill(buffer));
    }

    /// Fills a buffer with frames; its length.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut used = 0;
        while buffer.len() - used > HEADER_LENGTH {
            let Some(frame) = self.switch.next_control() else { break };
            put(buffer, &mut used, &frame.encode());
        }
        let mut turns = self.active.len();
        while turns > 0 && buffer.len() - used > HEADER_LENGTH {
            turns -= 1;
            let Some(channel) = self.active.pop_front() else { break };
            let Some(open) = self.open.get(&channel) else {
                self.is_active.remove(&channel);
                continue;
            };
            let sendable = self.switch.sendable(channel);
            let place = buffer.get_mut(used..).unwrap_or_default();
            let length =
                put_data(place, channel, sendable, |data| open.port.read(data).unwrap_or(0));
            if length > 0 {
                used += HEADER_LENGTH + length;
                self.switch.sent(channel, length);
                self.active.push_back(channel);
                continue;
            }
            let readable = open.port.readable();
            if open.is_leaving && !matches!(readable, Ok(1..)) || readable.is_err() {
                self.finish(channel);
            } else if matches!(readable, Ok(1..)) {
                // It waits for credit; it is looked at whenever something happens.
                self.active.push_back(channel);
            } else {
                self.is_active.remove(&channel);
            }
        }
        while buffer.len() - used > HEADER_LENGTH {
            let Some(frame) = self.switch.next_control() else { break };
            put(buffer, &mut used, &frame.encode());
        }
        used
    }

    /// The channel's program is gone and all it said was sent, or it broke the rules of its ring.
    fn finish(&mut self, channel: u32) {
        self.is_active.remove(&channel);
        if let Some(open) = self.open.remove(&channel) {
            if let Some(ringers) = self.ringers.get_mut(&open.bit) {
                ringers.retain(|other| *other != channel);
            }
            open.port.close();
            drop(open.port);
            let _ = open.space.destroy();
            open.doorbell.forget();
        }
        self.switch.close(channel);
    }
}

/// Puts a frame with what a reader gives, at most `limit` bytes; how many it gave, and 0 if there is no frame.
///
/// The header tells what was read and not what could be read a moment before: the program may take words of its ring back meanwhile, and bytes
/// missing in its frame would make the daemon take the next frames, which are other programs', for its data.
fn put_data(
    buffer: &mut [u8],
    channel: u32,
    limit: usize,
    read: impl FnOnce(&mut [u8]) -> usize,
) -> usize {
    let Some((header, rest)) = buffer.split_first_chunk_mut::<HEADER_LENGTH>() else { return 0 };
    let limit = rest.len().min(limit);
    let data = rest.get_mut(..limit).unwrap_or_default();
    let length = if data.is_empty() { 0 } else { read(data).min(limit) };
    if length > 0 {
        *header = Frame::Data { channel, length: length as u32 }.encode();
    }
    length
}

fn put(buffer: &mut [u8], used: &mut usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(*used..*used + bytes.len()) {
        place.copy_from_slice(bytes);
        *used += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_what_the_ring_gave_in_the_end() {
        let header = |length| Frame::Data { channel: 16, length }.encode();
        for given in [1, 7, 100] {
            let mut buffer = [0; 200];
            let length = put_data(&mut buffer, 16, 100, |data| {
                assert_eq!(data.len(), 100);
                data[..given].fill(b'x');
                given
            });
            assert_eq!(length, given);
            assert_eq!(buffer[..HEADER_LENGTH], header(given as u32));
            assert!(buffer[HEADER_LENGTH..][..given].iter().all(|byte| *byte == b'x'));
        }
        // A ring that was emptied or broken meanwhile makes no frame.
        let mut buffer = [0; 200];
        assert_eq!(put_data(&mut buffer, 16, 100, |_| 0), 0);
        assert_eq!(buffer, [0; 200]);
        // Without credit or room the ring is left alone.
        assert_eq!(put_data(&mut buffer, 16, 0, |_| unreachable!()), 0);
        assert_eq!(put_data(&mut buffer[..HEADER_LENGTH], 16, 9, |_| unreachable!()), 0);
        assert_eq!(put_data(&mut buffer[..3], 16, 9, |_| unreachable!()), 0);
    }
}
