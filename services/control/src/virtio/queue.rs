//! A split virtqueue of page-sized buffers (Virtual I/O Device specification 1.2, 2.7).

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};
use rt::{
    Hardware, Space,
    abi::{PAGE_SIZE, space::Access},
    startup,
    view::View,
};

/// Most buffers of a queue.
const MAX_BUFFERS: u16 = 64;
/// Bytes of a buffer.
pub(crate) const BUFFER: usize = PAGE_SIZE as usize;
/// Offsets of the rings in the queue's page.
const AVAILABLE: usize = 1024;
const USED: usize = 2048;
/// Descriptor flag: the device writes.
const DEVICE_WRITES: u16 = 2;

/// Memory that the device reads and writes.
pub(crate) struct Queue {
    rings: View,
    buffers: View,
    /// Physical address of the rings' page.
    pub(crate) physical: u64,
    /// Buffers, a power of two.
    pub(crate) size: u16,
    device_writes: bool,
    available: u16,
    used: u16,
}

impl Queue {
    /// Makes a queue's memory; a queue that the device writes into gets all its buffers at once.
    pub(crate) fn new(hardware: Hardware, size: u16, device_writes: bool) -> rt::Result<Self> {
        if size > MAX_BUFFERS || !size.is_power_of_two() {
            return Err(rt::Error::BadArgument);
        }
        let (rings, pages) = pinned(hardware, 1)?;
        let physical = pages.first().copied().ok_or(rt::Error::OutOfFrames)?;
        let (buffers, addresses) = pinned(hardware, u64::from(size))?;
        let mut queue =
            Self { rings, buffers, physical, size, device_writes, available: 0, used: 0 };
        for (index, address) in addresses.iter().enumerate() {
            queue.put64(16 * index, *address);
            queue.put16(16 * index + 12, if device_writes { DEVICE_WRITES } else { 0 });
            if device_writes {
                queue.offer(index as u16, BUFFER as u32);
            }
        }
        Ok(queue)
    }

    /// Physical addresses of descriptors, available ring and used ring.
    pub(crate) const fn addresses(&self) -> [u64; 3] {
        [self.physical, self.physical + AVAILABLE as u64, self.physical + USED as u64]
    }

    // Every field is written by one store of its own width: the device reads it at any moment, and an index that it saw half written
    // would make it give the queue up for ever (2.7.13.3).

    fn put16(&mut self, at: usize, value: u16) {
        // SAFETY: the offset is inside the rings' page, which this queue owns together with the device, and even.
        unsafe {
            self.rings.pointer().wrapping_add(at % BUFFER).cast::<u16>().write_volatile(value);
        };
    }

    fn put32(&mut self, at: usize, value: u32) {
        // SAFETY: as for `put16`; the offset is a multiple of four.
        unsafe {
            self.rings.pointer().wrapping_add(at % BUFFER).cast::<u32>().write_volatile(value);
        };
    }

    fn put64(&mut self, at: usize, value: u64) {
        // SAFETY: as for `put16`; the offset is a multiple of eight.
        unsafe {
            self.rings.pointer().wrapping_add(at % BUFFER).cast::<u64>().write_volatile(value);
        };
    }

    fn get16(&self, at: usize) -> u16 {
        // SAFETY: the offset is inside the rings' page and even.
        unsafe { self.rings.pointer().wrapping_add(at % BUFFER).cast::<u16>().read_volatile() }
    }

    fn get32(&self, at: usize) -> u32 {
        // SAFETY: the offset is inside the rings' page and a multiple of four.
        unsafe { self.rings.pointer().wrapping_add(at % BUFFER).cast::<u32>().read_volatile() }
    }

    /// Gives a buffer to the device.
    pub(crate) fn offer(&mut self, buffer: u16, length: u32) {
        self.put32(16 * usize::from(buffer) + 8, length);
        self.put16(AVAILABLE + 4 + 2 * usize::from(self.available % self.size), buffer);
        self.available = self.available.wrapping_add(1);
        // ORDERING: the buffer and its place are written before the device sees the index.
        fence(Ordering::SeqCst);
        self.put16(AVAILABLE + 2, self.available);
        fence(Ordering::SeqCst);
    }

    /// Takes a buffer back that the device has used: its index and the bytes in it.
    pub(crate) fn take(&mut self) -> Option<(u16, usize)> {
        fence(Ordering::SeqCst);
        if self.get16(USED + 2) == self.used {
            return None;
        }
        let place = USED + 4 + 8 * usize::from(self.used % self.size);
        let (buffer, length) = (self.get32(place), self.get32(place + 4));
        self.used = self.used.wrapping_add(1);
        let buffer = u16::try_from(buffer).ok().filter(|buffer| *buffer < self.size)?;
        Some((buffer, if self.device_writes { (length as usize).min(BUFFER) } else { 0 }))
    }

    /// A buffer's bytes, while it is not the device's.
    pub(crate) fn buffer(&mut self, index: u16) -> &mut [u8] {
        let at = usize::from(index % self.size) * BUFFER;
        // SAFETY: the buffer is inside the view, and the device does not use it between `take` and `offer`.
        unsafe { core::slice::from_raw_parts_mut(self.buffers.pointer().wrapping_add(at), BUFFER) }
    }
}

/// Zeroed pages of this program's own that a device may use, with their physical addresses.
fn pinned(hardware: Hardware, pages: u64) -> rt::Result<(View, Vec<u64>)> {
    let view = View::zeroed(pages)?;
    let home: Space = startup::home_space();
    home.resolve(view.offset(), pages, Access::READ | Access::WRITE)?;
    let addresses = (0..pages)
        .map(|page| home.pin(hardware, view.offset() + page * PAGE_SIZE))
        .collect::<rt::Result<_>>()?;
    Ok((view, addresses))
}
