//! The composed system: what `system.toml` says, as root reads it from the boot module, and what root tells the daemon.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The system description (postcard in the boot module).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the composition (`system`, `bench`, `suite`).
    pub name: String,
    /// The services in the order they are started.
    pub services: Vec<Service>,
}

/// Decodes a description.
///
/// # Errors
/// [`crate::wire::WireError::Malformed`].
pub fn decode(bytes: &[u8]) -> Result<Description, crate::wire::WireError> {
    postcard::from_bytes(bytes).map_err(|_| crate::wire::WireError::Malformed)
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name; its program in the boot module has the same name unless `program` says otherwise.
    pub name: String,
    /// Program name.
    pub program: String,
    /// Frame budget in pages (0: no limit of its own).
    pub memory_pages: u64,
    /// Threads.
    pub threads: u64,
    /// Kernel objects.
    pub objects: u64,
    /// Capability slots.
    pub slots: u64,
    /// Latency class 1 (service) or 0.
    pub latency: u8,
    /// The capabilities it gets.
    pub grants: Vec<Grant>,
    /// What root does when it dies.
    pub on_death: OnDeath,
}

/// A capability handed to a service, under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Name in the start-up block.
    pub name: String,
    /// What it is.
    pub what: GrantKind,
}

/// What can be granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantKind {
    /// The service's own Domain: create, inspect.
    Domain,
    /// The service's own home Space: edit, run.
    Home,
    /// A new Endpoint on which the service receives.
    Endpoint,
    /// A Gate to another service's Endpoint, with a badge.
    Gate {
        /// The other service.
        service: String,
        /// The name of the Endpoint among its grants.
        endpoint: String,
        /// Badge.
        badge: u64,
        /// Calls in flight.
        limit: u16,
    },
    /// A new Notification (receive and send).
    Notification,
    /// The Hardware capability with `SEND` and `INSPECT` (a driver).
    Hardware,
    /// The boot module's contents of one program (map-read, map-execute) as part of the module Space; values `NAME.first_segment` ... describe it.
    Module,
    /// A Domain under which the service creates compartments: create, grant, inspect, budget, destroy.
    CompartmentsDomain {
        /// Pages it may use in all (0: all that is left).
        memory_pages: u64,
    },
    /// A Domain that a service started before holds, to read what it uses and to limit it (inspect, budget): for a test suite.
    Accounts {
        /// The other service.
        service: String,
        /// The name of the Domain among its grants; `domain` is its own.
        domain: String,
    },
}

/// What root does when a service dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDeath {
    /// Start it again; its Endpoints stay, so that its clients' Gates stay valid.
    #[default]
    Restart,
    /// The machine ends (with a distinct status).
    EndMachine,
    /// The machine ends with status 0 when the service ends by itself (test suites, benchmarks).
    Finish,
}

/// From the daemon over [`crate::channel::well_known::SYSTEM`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Version, memory, CPUs, time.
    Status,
    /// The authority graph of the running machine.
    Authority,
    /// Ends the machine.
    PowerOff,
}

/// To the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Status.
    Status(Status),
    /// Who holds what: one entry per Domain root knows.
    Authority(Vec<Holder>),
    /// Refused.
    Refused(String),
}

/// The machine's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the system image.
    pub version: String,
    /// CPUs running.
    pub cpus: u32,
    /// Bytes of RAM managed, bytes free.
    pub memory: (u64, u64),
    /// Nanoseconds since boot.
    pub uptime_nanoseconds: u64,
    /// Kernel objects alive.
    pub objects: u64,
    /// Services: name, times restarted.
    pub services: Vec<(String, u32)>,
}

/// A Domain and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the service.
    pub name: String,
    /// Its capabilities.
    pub capabilities: Vec<crate::compartments::CapabilityRecord>,
}
