//! Executable reference models of the kernel, and the harness that runs the portable kernel on the fake machine beside them.
//!
//! Owns: what the kernel's rules *mean*, in code that is as plain as possible ([`space`]), and a way to play programs against the real kernel
//! ([`world`]). Must not know: page tables, locks, slices. For host tests only; nothing that ships depends on it.
#![forbid(unsafe_code)]

pub mod space;
pub mod twin;
pub mod world;
