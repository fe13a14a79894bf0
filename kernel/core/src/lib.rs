//! The portable kernel: capabilities, Domains, Spaces, threads, messages and scheduling, without one line of unsafe code.
//!
//! Owns: the meaning of every kernel operation. Must not know: registers of devices, assembly, boot protocols (`kernel-machine`) or what Linux is.
//!
//! ```text
//! entry -----> operation -----> domain  space  thread  ipc  irq
//!   |              (decode, check, perform)      \    |    /
//!   `-> faults, interrupts, idle -----> sched, reaper, frames
//! ```
//! An entry runs to completion with interrupts off. Locks have ranks ([`lock`]); lookups of capabilities take none.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod domain;
pub mod entry;
pub mod frames;
pub mod ipc;
pub mod irq;
pub mod lock;
pub mod operation;
mod reaper;
mod root;
pub mod sched;
pub mod space;
pub mod thread;

pub use kernel_machine::counter;
