//! The daemon: images, containers, their logs, and the machine they run in.
pub mod home;
pub mod image;
#[cfg(test)]
mod scratch;
