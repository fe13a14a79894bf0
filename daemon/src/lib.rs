//! The daemon of one user: owns the machine, and the names, logs and images of that user's containers.
//!
//! ```text
//! cli --api--> server --> controller --> machine --contract--> the services in the machine
//!                            |-> container (records, logs, hubs)
//!                            `-> image (import, store)
//! ```
//! Trusted for what it creates, and for nothing else: the machine does not believe it, and it believes no personality. Everything it knows is
//! in its home, and survives a kill at any moment.
#![forbid(unsafe_code)]

pub mod api;
pub mod container;
pub mod controller;
pub mod error;
pub mod home;
pub mod image;
pub mod machine;
#[cfg(test)]
mod scratch;
pub mod server;
pub mod signal;
pub mod time;
