//! The runtime of native programs: the kernel's operations as typed methods, a heap, threads, locks, a log, ports.
//!
//! Owns: the first instructions of a program, its address ranges and capability slots. Must not know: what any program does. FS and GS and the vector
//! registers are never used: in a personality they belong to the guest. Linked into every service and personality, so it is part of
//! what everybody trusts.
//!
//! On the host the crate compiles with operations that all fail, so that the logic of services can be tested there.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod arch;
pub mod clock;
#[cfg(target_os = "none")]
mod crash;
mod hardware;
pub mod heap;
pub mod launch;
pub mod log;
pub mod message;
pub mod module;
pub mod object;
pub mod port;
pub mod slots;
mod start;
pub mod startup;
pub mod sync;
pub mod template;
pub mod thread;
pub mod view;

pub use kernel_abi::{self as abi, Error};
pub use object::{Domain, Endpoint, Gate, Hardware, Irq, Notification, Reply, Space, Thread};
pub use start::{exit, serve};

/// Result of an operation.
pub type Result<T> = core::result::Result<T, Error>;

/// Names the function that a service begins with: as [`entry`], and a fault is described in the log before the service dies of it.
#[macro_export]
macro_rules! service {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn rt_main() {
            $crate::serve($main);
        }
    };
}

/// Names the function that a program begins with: `rt::entry!(main)` with `fn main()`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn rt_main() {
            $main();
        }
    };
}
