//! What the parts of MettEagle say to each other: every message that crosses a trust boundary above the kernel.
//!
//! Owns: the framing of the control channel, the messages of each service and of a compartment, the start-up block, the system
//! description and the layout of shared rings. Must not know: how anybody acts on a message. `no_std`, no unsafe, no I/O; both the host daemon and the
//! machine's programs depend on it. Every decoder treats its input as hostile: a length is checked before it is used.
//!
//! ```text
//! daemon ==virtio serial, frames (channel)== services/control --rings (ring)-- images, compartments, root, personalities
//! ```
//!
//! A *channel* is a flow-controlled pair of byte streams, numbered by the daemon. The control service moves bytes between a channel and the
//! *port* (two rings in a shared Space) of the service or compartment behind it and understands nothing of them. On each channel travel
//! length-prefixed postcard messages, see [`wire`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod channel;
pub mod compartment;
pub mod compartments;
pub mod control;
pub mod images;
pub mod ring;
pub mod startup;
mod strings;
pub mod system;
pub mod wire;

/// Version of everything in this crate; exchanged in [`channel::Frame::Hello`]. Different versions refuse to talk.
pub const VERSION: u32 = 5;
