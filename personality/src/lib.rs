//! The personality: Linux for one compartment, as an ordinary program of the compartment itself.
//!
//! Owns: processes, files, signals, terminals, memory maps, the system-call table. Must not know: anything outside its compartment but the port to
//! the daemon and its own Domain. It is trusted by its compartment alone; the kernel and the services believe it in nothing.
//!
//! ```text
//! guest --syscall--> machine::state::enter -> task::run -> syscall::dispatch -> file, memory, task, signal
//! daemon --port--> session -> task (start, signal, resize), file::terminal
//! ```
//! All state is one [`system::System`] under one lock ([`machine::Shared`]). A system call that has to wait says so, leaves the lock, and is begun again when
//! what it waits for may have happened ([`wait`]).
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod file;
pub mod file_system;
pub mod linux;
pub mod machine;
pub mod memory;
pub mod net;
pub mod session;
pub mod syscall;
pub mod system;
pub mod task;
pub mod vdso;
pub mod wait;

/// Notes that a program tried something that is not supported: `gap!(system, "name")`. The counts can be asked for (`mett inspect --gaps`).
#[macro_export]
macro_rules! gap {
    ($system:expr, $what:expr) => {
        *$system.gaps.entry($what).or_insert(0_u64) += 1
    };
}
