//! The kernel's lock order, in one picture.
//!
//! ```text
//!  IRQ             an interrupt's object
//!    WATCH, SESSION  a Domain's watch; an Endpoint, then its Gates
//!      REPLY       a Reply's call
//!        NOTIFICATION   a Notification's waiters
//!          SPACE   a Space's page table (two Spaces: by address, see `space::lock_pair`)
//!            THREAD    a thread's guest Space, wait and other state
//!              SCHEDULER   a CPU's run queue
//!                WHEEL     a CPU's timers
//!                  BANDWIDTH   a Domain's share of time
//!                    MEMBERS   the objects charged to a Domain
//!                      LEDGER  a Domain's accounts (children before parents)
//!                        REAPER  the queue of objects with deferred work
//!                          (slabs: rank 30)   (frames: no lock)
//! ```
//!
//! A CPU takes locks downwards only; debug builds check it at every lock.
//! No lock is held while a CPU waits for another one's acknowledgement.

use kernel_machine::object::Rank;

/// The reaper's queue.
pub const REAPER: Rank = 28;
/// An interrupt vector's object.
pub const IRQ: Rank = 2;
/// An Endpoint.
pub const SESSION: Rank = 4;
/// A Reply.
pub const REPLY: Rank = 6;
/// A Notification.
pub const NOTIFICATION: Rank = 8;
/// A Space.
pub const SPACE: Rank = 10;
/// A Thread.
pub const THREAD: Rank = 12;
/// A run queue.
pub const SCHEDULER: Rank = 14;
/// A timer wheel.
pub const WHEEL: Rank = 16;
/// A Domain's bandwidth.
pub const BANDWIDTH: Rank = 18;
/// A Domain's watch.
pub const WATCH: Rank = 3;
/// A Domain's members.
pub const MEMBERS: Rank = 22;
/// A Domain's accounts.
pub const LEDGER: Rank = 24;
/// The log.
pub const LOG: Rank = 26;
