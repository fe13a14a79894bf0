//! The ledger: what everybody on the machine uses by the kernel's accounts, which must be the same after any number of lives.
//!
//! Each Domain's own use is read, without what it has drawn in advance, so that the comparison is exact.

use crate::Arena;
use alloc::{format, string::String};
use rt::{
    Domain, Hardware,
    abi::{operation::HardwareFact, resource::Resource},
    clock, startup,
};

/// What is counted.
pub(crate) const RESOURCES: [Resource; 4] =
    [Resource::Frames, Resource::Objects, Resource::Slots, Resource::Threads];
/// Frames that a CPU keeps at hand at most: they are neither in use nor among the free ones that the kernel counts.
const AT_HAND: u64 = 64;
/// Nanoseconds within which everything is given back.
const PATIENCE: u64 = 30_000_000_000;
/// Nanoseconds without work after which the reaper is idle: some ticks of a busy CPU's timer.
const IDLE: u64 = 20_000_000;

/// The Domains whose accounts are read.
pub(crate) struct Accounts {
    hardware: Hardware,
    images: Domain,
    /// The compartments service's own.
    pub(crate) service: Domain,
    /// The one that all compartments are under.
    pub(crate) compartments: Domain,
}

/// What is in use: frames, objects, slots, threads of every Domain, and the free frames of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ledger {
    used: [[u64; 4]; 4],
    free: u64,
}

impl Accounts {
    /// Those that the referee was handed.
    pub(crate) fn open(hardware: Hardware) -> Option<Self> {
        let named = |name| startup::capability(name).map(Domain);
        Some(Self {
            hardware,
            images: named("accounts.images")?,
            service: named("accounts.service")?,
            compartments: named("accounts.compartments")?,
        })
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Ledger {
        let domains = [Domain::OWN, self.images, self.service, self.compartments];
        let used = |domain: Domain, resource| domain.stat(resource).map_or(u64::MAX, |of| of.used);
        Ledger {
            used: domains.map(|domain| RESOURCES.map(|resource| used(domain, resource))),
            free: self.hardware.fact(HardwareFact::FreeFrames).unwrap_or(0),
        }
    }

    /// Slices that the reaper has done.
    fn slices(&self) -> u64 {
        (0..)
            .map_while(|index| self.hardware.counter(index).ok())
            .find(|(_, name)| name.starts_with(b"reaper slices"))
            .map_or(0, |(slices, _)| slices)
    }
}

impl Ledger {
    /// Waits until the reaper has nothing more to do, and reads.
    pub(crate) fn settled(arena: &Arena) -> Self {
        let mut seen = (arena.accounts.slices(), clock::since_boot());
        arena.client.wait(PATIENCE, || {
            let (slices, now) = (arena.accounts.slices(), clock::since_boot());
            if slices != seen.0 {
                seen = (slices, now);
            }
            now.saturating_sub(seen.1) > IDLE
        });
        arena.accounts.read()
    }

    /// Waits until exactly that is in use which was before.
    pub(crate) fn settle(self, arena: &Arena) -> Result<(), String> {
        let cpus = arena.hardware.fact(HardwareFact::Cpus).unwrap_or(1);
        let is_back = || {
            let now = arena.accounts.read();
            now.used == self.used && now.free.abs_diff(self.free) <= cpus * AT_HAND
        };
        if arena.client.wait(PATIENCE, is_back) {
            return Ok(());
        }
        Err(format!("left behind: {self:?} became {:?}", arena.accounts.read()))
    }
}

impl core::fmt::Debug for Ledger {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = ["referee", "images", "compartments service", "compartments"];
        write!(to, "[frames, objects, slots, threads]")?;
        for (name, used) in names.iter().zip(self.used) {
            write!(to, " {name} {used:?}")?;
        }
        write!(to, ", {} frames free", self.free)
    }
}
