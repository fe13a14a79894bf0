//! Capabilities as a program sees them: slots, kinds and rights.

use bitflags::bitflags;

/// Index of a slot in the calling Domain's capability table. Slot 0 is never occupied and means "none".
pub type Slot = u32;

/// One past the largest slot number of a Domain.
pub const SLOT_LIMIT: Slot = 1 << 20;

/// The kinds of kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Unit of account and of death.
    Domain = 1,
    /// A tree of pages: memory that can be run in or only held.
    Space = 2,
    /// A kernel thread, with or without a guest.
    Thread = 3,
    /// Where servers receive calls.
    Endpoint = 4,
    /// One client session with an Endpoint: badge and limit of calls in flight.
    Gate = 5,
    /// A preallocated, single-use place for the answer to one call.
    Reply = 6,
    /// One word of bits that threads can wait for.
    Notification = 7,
    /// One interrupt line or message-signalled vector.
    Irq = 8,
    /// The authority over devices, physical addresses and power; the kernel makes exactly one, for root.
    Hardware = 9,
}

impl Kind {
    /// Decodes a kind number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Domain,
            2 => Self::Space,
            3 => Self::Thread,
            4 => Self::Endpoint,
            5 => Self::Gate,
            6 => Self::Reply,
            7 => Self::Notification,
            8 => Self::Irq,
            9 => Self::Hardware,
            _ => return None,
        })
    }
}

bitflags! {
    /// What a capability allows. The meaning of a bit depends on the kind; a copy can only have fewer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u16 {
        /// Space: run threads in it (as home or as guest).
        const RUN = 1 << 0;
        /// Space: change what it holds (zero, protect, unmap, be the destination of map, move out of it).
        const EDIT = 1 << 1;
        /// Space: be the source of a readable mapping.
        const MAP_READ = 1 << 2;
        /// Space: be the source of a writable mapping.
        const MAP_WRITE = 1 << 3;
        /// Space: be the source of an executable mapping.
        const MAP_EXECUTE = 1 << 4;
        /// Space: freeze it.
        const FREEZE = 1 << 5;
        /// Domain: create objects charged to it, and child Domains.
        const CREATE = 1 << 0;
        /// Domain: put capabilities into its table.
        const GRANT = 1 << 1;
        /// Domain: read its table, its budget and its use.
        const INSPECT = 1 << 2;
        /// Domain: change its budget and scheduling.
        const BUDGET = 1 << 3;
        /// Any kind: destroy the object (a Domain with all that is in it).
        const DESTROY = 1 << 8;
        /// Thread: start, kick, unpark, schedule, read its figures.
        const CONTROL = 1 << 0;
        /// Endpoint: receive. Notification: wait.
        const RECEIVE = 1 << 0;
        /// Endpoint: make Gates. Gate: call. Notification: signal. Reply: reply.
        const SEND = 1 << 1;
        /// Any kind: the capability may be handed on in a message or granted.
        const COPY = 1 << 9;
    }
}

impl Rights {
    /// Every right of every kind.
    pub const ALL: Self = Self::all();
}

/// Slots the kernel fills for the root program. Programs started by root find theirs by name in the start-up block.
pub mod root {
    use super::Slot;
    /// Root's own Domain, with every right.
    pub const DOMAIN: Slot = 1;
    /// Root's home Space.
    pub const HOME: Slot = 2;
    /// Root's first thread.
    pub const THREAD: Slot = 3;
    /// The one Hardware capability.
    pub const HARDWARE: Slot = 4;
    /// The whole boot module as a frozen Space (offset 0 is its first byte).
    pub const MODULE: Slot = 5;
    /// First slot that is free.
    pub const FREE: Slot = 16;
}
