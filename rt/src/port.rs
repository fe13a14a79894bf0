//! Ports: the program's side of a channel, two byte rings in a Space shared with the control service.
//!
//! The other side is believed in nothing: its words are copied once, and a difference larger than the ring closes the port.

use crate::{Notification, Result, Space, view::View};
use contract::ring::{CAPACITY, PORT_PAGES, offset};
use core::{
    ptr,
    sync::atomic::{AtomicU32, Ordering, fence},
};
use kernel_abi::{PAGE_SIZE, space::Access};

/// Which end of a port this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A program behind a channel.
    Program,
    /// The control service.
    Control,
}

/// The other side broke the rules of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Ring {
    tail: usize,
    head: usize,
    data: usize,
}

/// A port.
#[derive(Debug)]
pub struct Port {
    view: View,
    incoming: Ring,
    outgoing: Ring,
    closed_by_me: usize,
    closed_by_peer: usize,
    side: Side,
    doorbell: Notification,
    bits: u64,
}

impl Port {
    /// Maps a port's Space. `doorbell` and `bits` tell the other side.
    ///
    /// # Errors
    /// When the Space cannot be mapped.
    pub fn open(space: Space, side: Side, doorbell: Notification, bits: u64) -> Result<Self> {
        let view = View::map(space, 0, PORT_PAGES, Access::READ | Access::WRITE)?;
        let page = PAGE_SIZE as usize;
        let to_program =
            Ring { tail: offset::TO_PROGRAM_TAIL, head: offset::TO_PROGRAM_HEAD, data: page };
        let from_program = Ring {
            tail: offset::FROM_PROGRAM_TAIL,
            head: offset::FROM_PROGRAM_HEAD,
            data: page + CAPACITY as usize,
        };
        let (incoming, outgoing, closed_by_me, closed_by_peer) = match side {
            Side::Program => {
                (to_program, from_program, offset::CLOSED_BY_PROGRAM, offset::CLOSED_BY_CONTROL)
            }
            Side::Control => {
                (from_program, to_program, offset::CLOSED_BY_CONTROL, offset::CLOSED_BY_PROGRAM)
            }
        };
        Ok(Self { view, incoming, outgoing, closed_by_me, closed_by_peer, side, doorbell, bits })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        let address = self.view.pointer().expose_provenance() + at;
        // SAFETY: the word lies in the first page of the view, aligned, and both sides use it as an atomic only.
        unsafe { &*ptr::with_exposed_provenance::<AtomicU32>(address) }
    }

    /// Bytes that can be read.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn readable(&self) -> core::result::Result<usize, Broken> {
        let tail = self.word(self.incoming.tail).load(Ordering::Acquire);
        let head = self.word(self.incoming.head).load(Ordering::Relaxed);
        check(tail.wrapping_sub(head))
    }

    /// Bytes that can be written.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn writable(&self) -> core::result::Result<usize, Broken> {
        let tail = self.word(self.outgoing.tail).load(Ordering::Relaxed);
        let head = self.word(self.outgoing.head).load(Ordering::Acquire);
        check(tail.wrapping_sub(head)).map(|used| CAPACITY as usize - used)
    }

    /// Reads what is there, up to the buffer's length, and rings the doorbell if the other side may wait for the room.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn read(&self, buffer: &mut [u8]) -> core::result::Result<usize, Broken> {
        let count = self.readable()?.min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let head = self.word(self.incoming.head).load(Ordering::Relaxed);
        let (first, second) = buffer.split_at_mut(count.min(until_end(head)));
        self.view.read(self.incoming.data + place(head), first).map_err(|_| Broken)?;
        let rest = second.get_mut(..count - first.len()).unwrap_or_default();
        self.view.read(self.incoming.data, rest).map_err(|_| Broken)?;
        self.word(self.incoming.head).store(head.wrapping_add(count as u32), Ordering::Release);
        // ORDERING: pairs with the fence in `write`: either this sees that the ring was filled, or the producer sees the room.
        fence(Ordering::SeqCst);
        let tail = self.word(self.incoming.tail).load(Ordering::Relaxed);
        // A program waits only when it has filled the ring; the control service grants the daemon what room there is.
        if self.side == Side::Program || tail.wrapping_sub(head) >= CAPACITY {
            self.ring();
        }
        Ok(count)
    }

    /// Writes what there is room for and rings the doorbell; when it could not write all, the ring is full.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn write(&self, bytes: &[u8]) -> core::result::Result<usize, Broken> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let count = self.put(rest)?;
            if count == 0 {
                break;
            }
            written += count;
            // ORDERING: pairs with the fence in `read`.
            fence(Ordering::SeqCst);
        }
        if written > 0 {
            self.ring();
        }
        Ok(written)
    }

    /// Writes what there is room for at this moment.
    fn put(&self, bytes: &[u8]) -> core::result::Result<usize, Broken> {
        let count = self.writable()?.min(bytes.len());
        if count == 0 {
            return Ok(0);
        }
        let tail = self.word(self.outgoing.tail).load(Ordering::Relaxed);
        let (first, second) = bytes.split_at(count.min(until_end(tail)));
        self.view.write(self.outgoing.data + place(tail), first).map_err(|_| Broken)?;
        let rest = second.get(..count - first.len()).unwrap_or_default();
        self.view.write(self.outgoing.data, rest).map_err(|_| Broken)?;
        self.word(self.outgoing.tail).store(tail.wrapping_add(count as u32), Ordering::Release);
        Ok(count)
    }

    fn ring(&self) {
        // A doorbell that is gone belongs to a peer that is gone; `is_closed` tells.
        let _ = self.doorbell.signal(self.bits);
    }

    /// Says that this side will write no more.
    pub fn close(&self) {
        self.word(self.closed_by_me).store(1, Ordering::Release);
        self.ring();
    }

    /// Whether the other side will write no more (what it has written can still be read).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word(self.closed_by_peer).load(Ordering::Acquire) != 0
    }
}

fn check(used: u32) -> core::result::Result<usize, Broken> {
    if used > CAPACITY { Err(Broken) } else { Ok(used as usize) }
}

/// Where a count of bytes is in its ring.
const fn place(count: u32) -> usize {
    (count % CAPACITY) as usize
}

/// Bytes from there to the ring's end.
const fn until_end(count: u32) -> usize {
    CAPACITY as usize - place(count)
}
