//! The console: a byte stream each way, through port 0's two queues.

use super::{
    pci::{self, Device, Missing},
    queue::{BUFFER, BUFFERS, Queue},
};
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
/// Feature bit 32: the modern interface.
const VERSION_1: u32 = 1;

/// The console.
pub(crate) struct Console {
    device: Device,
    receive: Queue,
    send: Queue,
    free: [u16; BUFFERS as usize],
    free_count: usize,
    notify: [usize; 2],
}

impl Console {
    /// Finds and starts the console; its interrupt signals a bit.
    pub(crate) fn find(
        hardware: Hardware,
        notification: Notification,
        bit: u64,
    ) -> Result<Self, Missing> {
        let device = pci::find(hardware, notification, bit)?;
        let common = &device.common;
        common.write8(STATUS, 0);
        common.write8(STATUS, ACKNOWLEDGE | DRIVER);
        common.write32(DEVICE_FEATURE_SELECT, 1);
        if common.read32(DEVICE_FEATURE) & VERSION_1 == 0 {
            return Err(Missing::Structure);
        }
        for (select, bits) in [(0, 0), (1, VERSION_1)] {
            common.write32(DRIVER_FEATURE_SELECT, select);
            common.write32(DRIVER_FEATURE, bits);
        }
        common.write8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if common.read8(STATUS) & FEATURES_OK == 0 {
            return Err(Missing::Structure);
        }
        let receive = Queue::new(hardware, true)?;
        let send = Queue::new(hardware, false)?;
        let notify = [enable(&device, 0, &receive), enable(&device, 1, &send)];
        device.common.write8(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        let mut free = [0; BUFFERS as usize];
        for (index, place) in free.iter_mut().enumerate() {
            *place = index as u16;
        }
        let console =
            Self { device, receive, send, free, free_count: usize::from(BUFFERS), notify };
        console.kick(0);
        Ok(console)
    }

    fn kick(&self, queue: u16) {
        if let Some(at) = self.notify.get(usize::from(queue)) {
            self.device.notify.write16(*at, queue);
        }
    }

    /// Hands everything that has come to a function.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(&[u8])) {
        let mut any = false;
        while let Some((buffer, length)) = self.receive.take() {
            take(self.receive.buffer(buffer).get(..length).unwrap_or_default());
            self.receive.offer(buffer, BUFFER as u32);
            any = true;
        }
        if any {
            self.kick(0);
        }
    }

    /// Lets a function fill buffers, as long as there are free ones and it has something to say.
    pub(crate) fn send(&mut self, mut fill: impl FnMut(&mut [u8]) -> usize) {
        while let Some((buffer, _)) = self.send.take() {
            if let Some(place) = self.free.get_mut(self.free_count) {
                *place = buffer;
                self.free_count += 1;
            }
        }
        let mut any = false;
        while let Some(last) = self.free_count.checked_sub(1) {
            let Some(buffer) = self.free.get(last).copied() else { break };
            let length = fill(self.send.buffer(buffer));
            if length == 0 {
                break;
            }
            self.free_count = last;
            self.send.offer(buffer, length.min(BUFFER) as u32);
            any = true;
        }
        if any {
            self.kick(1);
        }
    }
}

/// Tells the device where a queue is; the offset of its notification register.
fn enable(device: &Device, index: u16, queue: &Queue) -> usize {
    let common = &device.common;
    common.write16(QUEUE_SELECT, index);
    common.write16(QUEUE_SIZE, BUFFERS);
    common.write16(QUEUE_VECTOR, 0);
    for (place, address) in queue.addresses().into_iter().enumerate() {
        common.write64(QUEUE_ADDRESSES + 8 * place, address);
    }
    common.write16(QUEUE_ENABLE, 1);
    usize::from(common.read16(QUEUE_NOTIFY)) * device.notify_multiplier as usize
}
