//! `services/compartments`: creates, lists, limits and destroys compartments.
//!
//! The daemon speaks to it over [`crate::channel::well_known::COMPARTMENTS`]; native clients call it with the same messages in a shared Space.

use crate::images::Digest;
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Bytes of memory that the smallest compartment needs: its personality and one small process.
pub const LEAST_MEMORY: u64 = 1 << 20;

/// Limits of a compartment; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Memory in bytes, everything included.
    pub memory: Option<u64>,
    /// CPU bandwidth in thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// Weight, 1..=10000 (cgroup v2's `cpu.weight`); 100 is normal.
    pub cpu_weight: Option<u64>,
    /// Bit mask of CPUs.
    pub cpu_set: Option<u64>,
    /// Processes and threads.
    pub threads: Option<u64>,
}

/// Everything a compartment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Chosen by the client, unique among the living.
    pub id: u64,
    /// Channel that will reach the compartment (see [`crate::compartment`]); 0: none.
    pub channel: u32,
    /// Layers, lowest first.
    pub layers: Vec<Digest>,
    /// Limits.
    pub budget: Budget,
    /// The tenant whose budget it shares with others; 0: none.
    pub tenant: u64,
    /// What to run and how: an encoded [`Spec`](crate::compartment::Spec), which the service hands over as it is.
    #[serde(with = "serde_bytes")]
    pub spec: Vec<u8>,
}

/// To the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Creates and starts a compartment.
    Create(Create),
    /// Kills a compartment at once, with everything in it.
    Destroy {
        /// Which.
        id: u64,
    },
    /// Changes limits (only those that are `Some`).
    Update {
        /// Which.
        id: u64,
        /// New limits.
        budget: Budget,
    },
    /// Reads use and limits.
    Stat {
        /// Which.
        id: u64,
    },
    /// Lists the living.
    List,
    /// Lists the capabilities the compartment holds from a slot on, from the kernel's own table: [`LISTED_AT_ONCE`] of them at most, since a
    /// compartment may hold as many as it can pay for. Who wants all asks again behind the last, until none comes.
    Capabilities {
        /// Which.
        id: u64,
        /// First slot to look at.
        from: u32,
    },
    /// Makes a tenant: a Domain over the compartments that are created in it, which together stay within its budget.
    CreateTenant {
        /// Chosen by the client, unique among tenants, not 0.
        id: u64,
        /// Limits of all its compartments together.
        budget: Budget,
    },
    /// Changes limits of a tenant (only those that are `Some`).
    UpdateTenant {
        /// Which.
        id: u64,
        /// New limits.
        budget: Budget,
    },
    /// Reads use and limits of a tenant.
    StatTenant {
        /// Which.
        id: u64,
    },
    /// Removes a tenant that no compartment is in.
    RemoveTenant {
        /// Which.
        id: u64,
    },
}

/// Most capabilities in one answer.
pub const LISTED_AT_ONCE: usize = 256;

/// From the service, in the order of the requests, except `Died`, which comes when it happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Answer to `Create`.
    Created {
        /// Nanoseconds from the receipt of the request to the personality's first instruction being scheduled.
        nanoseconds: u64,
    },
    /// Answer to `Stat` and `StatTenant`.
    Stat(Stat),
    /// Answer to `List`: identities.
    List(Vec<u64>),
    /// Answer to `Capabilities`.
    Capabilities(Vec<CapabilityRecord>),
    /// The request was refused.
    Refused(Refusal),
    /// A compartment has died and everything it held has been given back.
    Died {
        /// Which.
        id: u64,
        /// How.
        death: Death,
    },
}

/// How a compartment ended, as far as the service knows (the personality reports its process's exit status itself).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// Its personality ended by itself.
    Ended,
    /// It was destroyed on request.
    Destroyed,
    /// Its personality faulted or broke a rule of the kernel.
    Crashed(String),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No compartment has this identity.
    UnknownCompartment,
    /// No tenant has this identity.
    UnknownTenant,
    /// So many compartments are in the tenant.
    TenantInUse(u64),
    /// The tenant's budget is exhausted.
    TenantExhausted,
    /// The identity is taken.
    IdentityTaken,
    /// A layer is not in the store.
    UnknownLayer(Digest),
    /// The memory limit is below what a compartment needs (bytes needed).
    TooLittleMemory(u64),
    /// The CPU set names no CPU the machine has.
    NoSuchCpu,
    /// The machine's memory or objects are exhausted.
    OutOfMemory,
    /// The spec is malformed.
    BadSpec(String),
}

/// Use and limits of a compartment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Bytes in use, highest ever, limit.
    pub memory: (u64, u64, Option<u64>),
    /// Nanoseconds of CPU time.
    pub cpu_nanoseconds: u64,
    /// Times throttled.
    pub throttled: u64,
    /// Threads in use, highest ever, limit.
    pub threads: (u64, u64, Option<u64>),
    /// Kernel objects in use.
    pub objects: u64,
    /// Capability slots in use.
    pub slots: u64,
}

/// One capability that a compartment holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRecord {
    /// Slot number.
    pub slot: u32,
    /// Kind of the object (`kernel_abi::Kind` number).
    pub kind: u8,
    /// Rights (`kernel_abi::Rights` bits).
    pub rights: u16,
    /// Identity of the object in this machine.
    pub object: u32,
    /// What it is for: the name it was handed under, or what the personality made of it (empty: made by the compartment itself).
    pub name: String,
}

/// Labels of calls through a compartments Gate.
pub mod call {
    /// One capability: a Space whose first bytes are a [`crate::wire`] encoding of a `Request`; the answer is written over it. Word 0: pages of the Space.
    pub const REQUEST: u32 = 1;
    /// As REQUEST, with a second capability: a Notification; word 1 is the mask of bits signalled when the compartment created by the request has died.
    pub const REQUEST_WATCHED: u32 = 2;
}

/// Name of a kind of kernel object.
#[must_use]
pub fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 10] = [
        "unknown",
        "Domain",
        "Space",
        "Thread",
        "Endpoint",
        "Gate",
        "Reply",
        "Notification",
        "Irq",
        "Hardware",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("unknown")
}

/// Names of the rights of a capability, as the kernel manual has them; bits that mean nothing for the kind are left out.
#[must_use]
pub fn right_names(kind: u8, rights: u16) -> Vec<&'static str> {
    let own: &[&str] = match kind_name(kind) {
        "Domain" => &["create", "grant", "inspect", "budget"],
        "Space" => &["run", "edit", "map-read", "map-write", "map-execute", "freeze"],
        "Thread" => &["control"],
        "Endpoint" | "Gate" | "Reply" | "Notification" | "Irq" => &["receive", "send"],
        "Hardware" => &["receive", "send", "inspect"],
        _ => &[],
    };
    let common = [(8, "destroy"), (9, "copy")];
    let named = own.iter().copied().enumerate().chain(common);
    named.filter(|(bit, _)| rights >> bit & 1 != 0).map(|(_, name)| name).collect()
}
