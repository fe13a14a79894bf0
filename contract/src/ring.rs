//! Layout of a port: a Space with two single-producer single-consumer byte rings and a doorbell each way.
//!
//! ```text
//! page 0  +0    to_program:   tail u32 (written by the producer)   +64   head u32 (written by the consumer)
//!         +128  from_program: tail u32                             +192  head u32
//!         +256  flags: u32 bit 0: the control service has closed the port; +260 bit 0: the program has closed it
//! page 1 .. 1+N        bytes to the program
//! page 1+N .. 1+2N     bytes from the program
//! ```
//!
//! Head and tail count bytes and wrap at 2^32; the capacity is a power of two. A side trusts only its own word and copies of the other's: a
//! difference greater than the capacity means the peer is broken, and the port is closed. The ring belongs to the control service's side.
//! Doorbells are Notifications: the producer signals after moving a tail, the consumer after moving a head, always with the bit it was given. The
//! control service does the latter only if the ring was full, which is all that a program waits for.

/// Offsets in page 0.
pub mod offset {
    /// Producer's word of the ring to the program.
    pub const TO_PROGRAM_TAIL: usize = 0;
    /// Consumer's word of the ring to the program.
    pub const TO_PROGRAM_HEAD: usize = 64;
    /// Producer's word of the ring from the program.
    pub const FROM_PROGRAM_TAIL: usize = 128;
    /// Consumer's word of the ring from the program.
    pub const FROM_PROGRAM_HEAD: usize = 192;
    /// Set by the control service.
    pub const CLOSED_BY_CONTROL: usize = 256;
    /// Set by the program.
    pub const CLOSED_BY_PROGRAM: usize = 260;
}

/// Pages of one ring (8 KiB).
pub const RING_PAGES: u64 = 2;
/// Capacity of one ring in bytes.
pub const CAPACITY: u32 = 8 * 1024;
/// Pages of a whole port.
pub const PORT_PAGES: u64 = 1 + 2 * RING_PAGES;
