//! The kernel's interface: numbers, layouts and meanings shared by the kernel and every native program.
//!
//! Owns: operation numbers, object kinds, rights, errors, address-space layout, the guest state page and the boot module
//! format. Must not know: how the kernel implements any of it, or what Linux is. Nothing here has behaviour beyond packing
//! and checking bits, so both sides of the boundary can depend on it.
//!
//! # Calling convention
//!
//! A native program executes `syscall` with the operation in `rax` and up to six arguments in `rdi rsi rdx r10 r8 r9`. On return
//! `rax` is zero or positive for success (see each operation) and a negated [`Error`] otherwise; `rdx` is a second result.
//! `rcx`, `r11` and the argument registers are clobbered; `rbx rbp r12-r15 rsp` and the vector state are preserved. The message operations use
//! more registers, see [`message`].
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod cap;
pub mod error;
pub mod guest;
pub mod layout;
pub mod message;
pub mod operation;
pub mod resource;
pub mod space;

pub use cap::{Kind, Rights, Slot};
pub use error::Error;
pub use operation::Operation;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: u64 = 4096;
/// Base-two logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
