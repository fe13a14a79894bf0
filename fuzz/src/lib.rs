//! Hostile bytes for every decoder at a trust boundary.
//!
//! Owns: one plain function `fn(&[u8])` per boundary ([`TARGETS`]), the seeded mutations that drive them ([`driver`]), and the inputs they begin with
//! (`corpus/TARGET/*`, where an input that once found a bug stays for ever). Must not know: what the decoders are for. A target may refuse its input in
//! any way but a panic, and what it accepts has to be consistent. For host tests only; nothing that ships depends on it.
#![forbid(unsafe_code)]

pub mod driver;
mod images;
mod kernel;
mod messages;
mod programs;

/// A boundary.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// Decodes an input; panics when there is a bug.
    pub run: fn(&[u8]),
    /// Mutations of each test run; chosen so that no target takes more than a few seconds in a debug build.
    pub rounds: u32,
}

/// Every boundary.
pub const TARGETS: &[Target] = &[
    Target { name: "archive", run: images::archive, rounds: 150 },
    Target { name: "layer", run: images::layer, rounds: 150 },
    Target { name: "erofs", run: images::erofs, rounds: 4000 },
    Target { name: "elf", run: programs::elf, rounds: 20_000 },
    Target { name: "socket", run: programs::socket, rounds: 40_000 },
    Target { name: "channel", run: messages::channel, rounds: 20_000 },
    Target { name: "daemon", run: messages::daemon, rounds: 20_000 },
    Target { name: "services", run: messages::services, rounds: 20_000 },
    Target { name: "kernel", run: kernel::operations, rounds: 250 },
];
