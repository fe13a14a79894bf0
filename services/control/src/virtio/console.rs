//! The serial device: a byte stream each way through the queues of its port 1, and the queues about ports (5.3).
//!
//! Port 0 is a console, for which the emulator drops what the host does not take at once; a further port waits instead.
//! Nothing is sent before the host has opened the port, because that would be dropped too.

use super::{
    pci::{self, Device, Missing},
    queue::{BUFFER, Queue},
};
use alloc::vec::Vec;
use rt::{Hardware, Notification};

// Registers of the common configuration (4.1.4.3).
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const STATUS: usize = 20;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY: usize = 30;
const QUEUE_ADDRESSES: usize = 32;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
/// Feature bit 1: several ports.
const MULTIPORT: u32 = 1 << 1;
/// Feature bit 32: the modern interface.
const VERSION_1: u32 = 1;

// Queues (5.3.2): port 0's, those about ports, port 1's. Port 0 has none here.
const CONTROL_RECEIVE: u16 = 2;
const CONTROL_SEND: u16 = 3;
const RECEIVE: u16 = 4;
const SEND: u16 = 5;
/// Buffers of a queue of port 1.
const BUFFERS: u16 = 32;
/// Buffers of a queue about ports: more than there are events at the start.
const CONTROL_BUFFERS: u16 = 8;

// Events (5.3.6.2).
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
/// The port that the control channel runs over.
const PORT: u32 = 1;

/// What is known of the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// It has not opened the port yet.
    Absent,
    /// It listens.
    Present,
    /// It has closed the port: whoever started the machine is gone.
    Gone,
}

/// The device.
pub(crate) struct Console {
    device: Device,
    events: Queue,
    receive: Queue,
    send: Outgoing,
    answers: Outgoing,
    host: Host,
    /// Offsets of the queues' notification registers.
    notify: [usize; 6],
}

/// A queue for sending, with its free buffers.
struct Outgoing {
    queue: Queue,
    free: Vec<u16>,
}

impl Outgoing {
    fn new(hardware: Hardware, size: u16) -> rt::Result<Self> {
        Ok(Self { queue: Queue::new(hardware, size, false)?, free: (0..size).collect() })
    }

    /// Lets a function fill buffers, as long as there are free ones and it has something to say; whether it had.
    fn fill(&mut self, mut fill: impl FnMut(&mut [u8]) -> usize) -> bool {
        while let Some((buffer, _)) = self.queue.take() {
            self.free.push(buffer);
        }
        let mut any = false;
        while let Some(buffer) = self.free.last().copied() {
            let length = fill(self.queue.buffer(buffer));
            if length == 0 {
                break;
            }
            self.free.pop();
            self.queue.offer(buffer, length.min(BUFFER) as u32);
            any = true;
        }
        any
    }
}

impl Console {
    /// Finds and starts the device; its interrupt signals a bit.
    pub(crate) fn find(
        hardware: Hardware,
        notification: Notification,
        bit: u64,
    ) -> Result<Self, Missing> {
        let device = pci::find(hardware, notification, bit)?;
        let common = &device.common;
        common.write8(STATUS, 0);
        common.write8(STATUS, ACKNOWLEDGE | DRIVER);
        for (select, bits) in [(0, MULTIPORT), (1, VERSION_1)] {
            common.write32(DEVICE_FEATURE_SELECT, select);
            if common.read32(DEVICE_FEATURE) & bits == 0 {
                return Err(Missing::Structure);
            }
            common.write32(DRIVER_FEATURE_SELECT, select);
            common.write32(DRIVER_FEATURE, bits);
        }
        common.write8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if common.read8(STATUS) & FEATURES_OK == 0 {
            return Err(Missing::Structure);
        }
        let mut console = Self {
            events: Queue::new(hardware, CONTROL_BUFFERS, true)?,
            answers: Outgoing::new(hardware, CONTROL_BUFFERS)?,
            receive: Queue::new(hardware, BUFFERS, true)?,
            send: Outgoing::new(hardware, BUFFERS)?,
            host: Host::Absent,
            notify: [0; 6],
            device,
        };
        for (index, queue) in [
            (CONTROL_RECEIVE, &console.events),
            (CONTROL_SEND, &console.answers.queue),
            (RECEIVE, &console.receive),
            (SEND, &console.send.queue),
        ] {
            if let Some(place) = console.notify.get_mut(usize::from(index)) {
                *place = enable(&console.device, index, queue);
            }
        }
        console.device.common.write8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        console.kick(CONTROL_RECEIVE);
        console.kick(RECEIVE);
        console.say(u32::MAX, DEVICE_READY, 1);
        Ok(console)
    }

    fn kick(&self, queue: u16) {
        if let Some(at) = self.notify.get(usize::from(queue)) {
            self.device.notify.write16(*at, queue);
        }
    }

    /// Tells the device something about a port. All events together need fewer buffers than there are.
    fn say(&mut self, port: u32, event: u16, value: u16) {
        let mut message = Some(encode(port, event, value));
        let any = self.answers.fill(|buffer| match (message.take(), buffer.first_chunk_mut()) {
            (Some(message), Some(place)) => {
                *place = message;
                message.len()
            }
            _ => 0,
        });
        if any {
            self.kick(CONTROL_SEND);
        }
    }

    /// What is known of the host's side.
    pub(crate) const fn host(&self) -> Host {
        self.host
    }

    /// Takes what the device says about ports.
    fn hear(&mut self) {
        let mut any = false;
        while let Some((buffer, length)) = self.events.take() {
            let bytes = self.events.buffer(buffer).get(..length).unwrap_or_default();
            let event = bytes.first_chunk().copied().map(decode);
            self.events.offer(buffer, BUFFER as u32);
            any = true;
            match event {
                Some((PORT, PORT_ADD, _)) => {
                    self.say(PORT, PORT_READY, 1);
                    self.say(PORT, PORT_OPEN, 1);
                }
                Some((PORT, PORT_OPEN, 0)) if self.host == Host::Present => self.host = Host::Gone,
                Some((PORT, PORT_OPEN, 1)) => self.host = Host::Present,
                _ => {}
            }
        }
        if any {
            self.kick(CONTROL_RECEIVE);
        }
    }

    /// Hands everything that has come to a function.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(&[u8])) {
        self.hear();
        let mut any = false;
        while let Some((buffer, length)) = self.receive.take() {
            take(self.receive.buffer(buffer).get(..length).unwrap_or_default());
            self.receive.offer(buffer, BUFFER as u32);
            any = true;
        }
        if any {
            self.kick(RECEIVE);
        }
    }

    /// Lets a function fill buffers while the host listens.
    pub(crate) fn send(&mut self, fill: impl FnMut(&mut [u8]) -> usize) {
        if self.host == Host::Present && self.send.fill(fill) {
            self.kick(SEND);
        }
    }
}

/// Tells the device where a queue is; the offset of its notification register.
fn enable(device: &Device, index: u16, queue: &Queue) -> usize {
    let common = &device.common;
    common.write16(QUEUE_SELECT, index);
    common.write16(QUEUE_SIZE, queue.size);
    common.write16(QUEUE_VECTOR, 0);
    for (place, address) in queue.addresses().into_iter().enumerate() {
        common.write64(QUEUE_ADDRESSES + 8 * place, address);
    }
    common.write16(QUEUE_ENABLE, 1);
    usize::from(common.read16(QUEUE_NOTIFY)) * device.notify_multiplier as usize
}

fn encode(port: u32, event: u16, value: u16) -> [u8; 8] {
    let number = u64::from(port) | u64::from(event) << 32 | u64::from(value) << 48;
    number.to_le_bytes()
}

fn decode(bytes: [u8; 8]) -> (u32, u16, u16) {
    let number = u64::from_le_bytes(bytes);
    (number as u32, (number >> 32) as u16, (number >> 48) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_encoded_as_the_specification_says() {
        assert_eq!(encode(1, PORT_OPEN, 1), [1, 0, 0, 0, 6, 0, 1, 0]);
        assert_eq!(decode(encode(u32::MAX, DEVICE_READY, 7)), (u32::MAX, DEVICE_READY, 7));
    }
}
