//! What every case can use: the Hardware capability, the boot module, and helpers to make Domains and assistants.

use crate::act::{self, Act};
use crate::check::{Must, Outcome};
use alloc::{format, string::String, vec::Vec};
use rt::{
    Domain, Error, Hardware, Notification, Result, Space,
    abi::{
        Operation, Rights,
        operation::HardwareFact,
        resource::{Resource, UNLIMITED},
    },
    arch::call,
    launch::Launch,
    module::Module,
    object::Limits,
    startup,
};

/// Longest command line that is read.
const COMMAND_LINE: u64 = 2048;
/// Seconds within which whatever a case waits for must come.
pub(crate) const PATIENCE: u64 = 60;

/// No limits.
pub(crate) const NO_LIMITS: Limits =
    Limits { frames: UNLIMITED, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED };

/// What every case can use.
pub(crate) struct World {
    /// The machine.
    pub(crate) hardware: Hardware,
    /// The boot module: where the assistant comes from.
    pub(crate) module: Module,
    /// CPUs running.
    pub(crate) cpus: u64,
    /// Cases whose names contain this are run.
    pub(crate) filter: String,
    /// Of the random cases.
    pub(crate) seed: u64,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        let hardware = Hardware(startup::capability("hardware").ok_or(Error::NotPresent)?);
        let module_space = Space(startup::capability("module").ok_or(Error::NotPresent)?);
        let line = command_line(hardware);
        let number = |name| word(&line, name).and_then(|text| text.parse().ok());
        Ok(Self {
            hardware,
            module: Module::read(module_space)?,
            cpus: hardware.fact(HardwareFact::Cpus)?,
            filter: word(&line, "suite=").unwrap_or_default().into(),
            seed: number("seed=").unwrap_or(0x5eed),
        })
    }

    /// A child Domain without limits but its parent's.
    pub(crate) fn domain(&self) -> Result<Domain> {
        Domain::OWN.create(Limits {
            frames: UNLIMITED,
            objects: UNLIMITED,
            slots: UNLIMITED,
            threads: UNLIMITED,
        })
    }

    /// Starts the assistant in a child of a Domain.
    pub(crate) fn assistant_in(
        &self,
        parent: Domain,
        act: Act,
        prepare: impl FnOnce(&mut Launch<'_>) -> Result<()>,
    ) -> Result<Assistant> {
        let image = self.module.program("assistant").ok_or(Error::NotPresent)?;
        let domain = parent.create(NO_LIMITS)?;
        let signal = Notification::create(Domain::OWN)?;
        let watch = Notification::create(Domain::OWN)?;
        domain.watch(watch, 0)?;
        let mut launch = Launch::new(domain, "assistant", image);
        launch.grant(act::SIGNAL, signal.slot(), Rights::SEND | Rights::COPY)?;
        launch.value(act::ACT, act as u64);
        let assistant = Assistant { domain, signal, watch };
        prepare(&mut launch).and_then(|()| launch.start()).inspect_err(|_| assistant.abandon())?;
        Ok(assistant)
    }
}

/// An assistant that was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assistant {
    /// Its Domain.
    pub(crate) domain: Domain,
    signal: Notification,
    watch: Notification,
}

impl Assistant {
    /// Waits for some of the bits it signals.
    pub(crate) fn wait(&self, bits: u64) -> Result<u64> {
        self.signal.wait(bits, in_seconds(PATIENCE))
    }
    /// Waits until its Domain has died by itself and everything is given back.
    pub(crate) fn buried(self) -> Result<()> {
        let waited = self.watch.wait(2, in_seconds(PATIENCE));
        self.abandon();
        waited.map(|_| ())
    }
    /// Destroys its Domain and waits until everything is given back.
    pub(crate) fn kill(self) -> Result<()> {
        // The slot is given back once, at the end.
        call(Operation::ObjectDestroy, [self.domain.slot().into(), 0, 0, 0, 0, 0])?;
        self.buried()
    }
    fn abandon(&self) {
        if self.domain.destroy().is_err() {
            self.domain.forget();
        }
        let _ = self.signal.destroy();
        let _ = self.watch.destroy();
    }
}

/// The deadline that many seconds from now.
pub(crate) fn in_seconds(seconds: u64) -> u64 {
    rt::clock::deadline_in(seconds * 1_000_000_000)
}

/// Frames, objects, slots and threads that a Domain uses.
pub(crate) fn ledger(domain: Domain) -> Result<[u64; 4]> {
    let used = |resource| domain.stat(resource).map(|stat| stat.used);
    Ok([
        used(Resource::Frames)?,
        used(Resource::Objects)?,
        used(Resource::Slots)?,
        used(Resource::Threads)?,
    ])
}

/// A Domain under which a case makes others: its own account must be empty again when they are gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox(pub(crate) Domain);

impl Sandbox {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Domain::OWN.create(NO_LIMITS).map(Self)
    }
    /// A child.
    pub(crate) fn domain(&self) -> Result<Domain> {
        self.0.create(NO_LIMITS)
    }
    /// Waits until everything in it has been given back and removes it.
    pub(crate) fn close(self) -> Outcome {
        let empty = eventually(|| ledger(self.0) == Ok([0; 4]));
        let left = ledger(self.0);
        self.0.destroy().must("destroy the sandbox")?;
        if empty { Ok(()) } else { Err(format!("frames, objects, slots, threads left: {left:?}")) }
    }
}

/// Waits until a condition holds; whether it did in time.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let end = in_seconds(PATIENCE);
    while !condition() {
        if rt::clock::now() > end {
            return false;
        }
        let _ = rt::thread::park_until(rt::clock::deadline_in(200_000));
    }
    true
}

fn command_line(hardware: Hardware) -> String {
    let mut bytes = Vec::new();
    for at in (0..COMMAND_LINE).step_by(8) {
        let Ok(word) = hardware.fact_at(HardwareFact::CommandLine as u64 + at) else { break };
        bytes.extend(word.to_le_bytes());
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    String::from_utf8(bytes).unwrap_or_default()
}

/// The rest of the word that begins with a name.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}
