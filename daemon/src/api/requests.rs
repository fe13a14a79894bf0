//! The requests of the command line, and the records they give.

use contract::{
    compartment::{ProcessRecord, WindowSize},
    compartments::Budget,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the command line can ask for. Containers are named by name, identity or the beginning of the identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Versions of daemon and machine.
    Version,
    /// Imports an image.
    Import {
        /// `FORM:PATH[:TAG]`.
        source: String,
        /// Relative paths are relative to this.
        directory: PathBuf,
        /// Name to give.
        name: Option<String>,
    },
    /// Lists images.
    Images,
    /// Removes an image, or one of its names.
    RemoveImage(String),
    /// Describes images as docker does.
    InspectImages(Vec<String>),
    /// Creates a container; an image that is not imported yet is imported.
    Create(Box<CreateOptions>),
    /// Starts a container; with `attach`, streams until it ends.
    Start {
        /// Which.
        container: String,
        /// What to attach.
        attach: Option<AttachOptions>,
    },
    /// Attaches to the first process of a running container.
    Attach {
        /// Which.
        container: String,
        /// What to attach.
        options: AttachOptions,
    },
    /// Runs a further process in a running container.
    Exec {
        /// Which.
        container: String,
        /// What to run.
        options: Box<ExecOptions>,
    },
    /// Lists containers.
    Containers {
        /// Those that do not run as well.
        all: bool,
    },
    /// Gives a container's output.
    Logs {
        /// Which.
        container: String,
        /// Which part.
        options: LogOptions,
    },
    /// Waits for the end of a container.
    Wait(String),
    /// Asks a container to end and kills it after a while.
    Stop {
        /// Which.
        container: String,
        /// Seconds to wait; else the container's own or 10.
        timeout: Option<u64>,
        /// Start it again afterwards.
        restart: bool,
    },
    /// Sends a signal.
    Kill {
        /// Which.
        container: String,
        /// Linux signal number.
        signal: u8,
    },
    /// Removes a container.
    Remove {
        /// Which.
        container: String,
        /// Kill it first.
        force: bool,
    },
    /// Gives a container another name.
    Rename {
        /// Which.
        container: String,
        /// The new name.
        name: String,
    },
    /// Removes all containers that do not run.
    Prune,
    /// Copies a path out of a container as a tar archive.
    CopyOut {
        /// Which.
        container: String,
        /// Path inside.
        path: String,
    },
    /// Unpacks a tar archive into a directory of a container; `Archive` messages follow.
    CopyIn {
        /// Which.
        container: String,
        /// Directory inside.
        path: String,
    },
    /// What a path in a container is.
    PathStat {
        /// Which.
        container: String,
        /// Path inside.
        path: String,
    },
    /// Describes containers as docker does.
    Inspect(Vec<String>),
    /// Lists every capability a container holds.
    Capabilities(String),
    /// Lists the Linux features that a container tried and that are not supported.
    Gaps(String),
    /// Resource use of running containers.
    Stats {
        /// Which; empty: all that run.
        containers: Vec<String>,
        /// Go on until detached.
        stream: bool,
    },
    /// Processes of a container.
    Top(String),
    /// Changes limits of a container.
    Update {
        /// Which.
        container: String,
        /// New limits.
        budget: Budget,
    },
    /// Makes a tenant.
    CreateTenant {
        /// Its name.
        name: String,
        /// Limits of all its containers together.
        budget: Budget,
    },
    /// Lists tenants; with names, those.
    Tenants(Vec<String>),
    /// Changes limits of a tenant.
    UpdateTenant {
        /// Which.
        name: String,
        /// New limits.
        budget: Budget,
    },
    /// Removes a tenant.
    RemoveTenant {
        /// Which.
        name: String,
        /// Its containers go with it.
        force: bool,
    },
    /// Starts the machine.
    MachineStart(MachineSettings),
    /// Stops the machine, and with it all containers.
    MachineStop {
        /// Do not wait for containers to end by themselves.
        force: bool,
    },
    /// What the machine is doing.
    MachineStatus,
    /// The machine's log; with `follow`, goes on.
    MachineLogs {
        /// Go on.
        follow: bool,
        /// The last lines only.
        tail: Option<usize>,
    },
    /// Removes images that no container uses: those without a name, or all.
    PruneImages {
        /// Also those with names.
        all: bool,
    },
    /// The authority graph of the running machine (JSON).
    SystemCapabilities,
    /// Everything a bug report needs, without secrets.
    Diagnose,
    /// Ends the daemon.
    Shutdown,
}

/// What to attach to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// The client's terminal.
    pub size: Option<WindowSize>,
}

/// How to make a container. `None` and empty mean: as the image says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateOptions {
    /// A name or `FORM:PATH[:TAG]`.
    pub image: String,
    /// Relative paths in `image` are relative to this.
    pub directory: PathBuf,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Name.
    pub name: Option<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Working directory.
    pub working_directory: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Entrypoint; the empty string resets the image's.
    pub entrypoint: Option<String>,
    /// Keep standard input open.
    pub interactive: bool,
    /// A terminal.
    pub terminal: bool,
    /// Host name.
    pub hostname: Option<String>,
    /// Limits.
    pub budget: Budget,
    /// The tenant whose budget it shares.
    pub tenant: Option<String>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// The image's files cannot be changed.
    pub read_only: bool,
    /// Memory file systems.
    pub tmpfs: Vec<TmpfsMount>,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// The client starts it next: if it goes away before it has, a container that removes itself is removed.
    pub starts_next: bool,
    /// A small init as process 1.
    pub init: bool,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Signal that asks it to end: number.
    pub stop_signal: Option<u8>,
    /// Seconds from that signal to the kill.
    pub stop_timeout: Option<u64>,
}

/// One `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Docker's name, for example `nofile`.
    pub name: String,
    /// Linux's RLIMIT number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// One `--tmpfs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Where.
    pub path: String,
    /// Size limit in bytes.
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Read-only.
    pub read_only: bool,
    /// Programs may be run from it.
    #[serde(default)]
    pub exec: bool,
    /// Set-user-ID bits count.
    #[serde(default)]
    pub suid: bool,
}

/// How to run a further process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecOptions {
    /// Command and arguments.
    pub command: Vec<String>,
    /// `NAME=value`, beside the container's.
    pub environment: Vec<String>,
    /// Working directory.
    pub working_directory: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Keep standard input open.
    pub interactive: bool,
    /// A terminal, and its size.
    pub terminal: Option<WindowSize>,
    /// Do not attach.
    pub detach: bool,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// The last lines only.
    pub tail: Option<u64>,
    /// From this time on, nanoseconds since 1970.
    pub since: Option<u64>,
    /// Up to this time.
    pub until: Option<u64>,
}

/// A line of `mett ps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// Identity.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image as it was named.
    pub image: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Nanoseconds since 1970.
    pub created: u64,
    /// Docker's state word.
    pub state: String,
    /// Docker's status phrase.
    pub status: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// A line of `mett image ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Digest of the configuration.
    pub id: String,
    /// Names with tags.
    pub names: Vec<String>,
    /// Seconds since 1970 at the import.
    pub imported: u64,
    /// Bytes of all layers.
    pub size: u64,
}

/// A tenant: a budget that several containers share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSummary {
    /// Name.
    pub name: String,
    /// Limits.
    pub budget: Budget,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// Bytes of memory that they use together, and the most they ever used in this machine.
    pub memory: (u64, u64),
    /// Nanoseconds of CPU time that they have used in this machine.
    pub cpu_nanoseconds: u64,
    /// Processes and threads, as the container counts them.
    pub threads: u64,
}

/// How the machine is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSettings {
    /// CPUs.
    pub cpus: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// What the machine is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Whether it runs.
    pub running: bool,
    /// Process of the emulator.
    pub pid: Option<u32>,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Version of the system in the machine.
    pub version: String,
    /// CPUs.
    pub cpus: u32,
    /// Bytes of memory in all.
    pub memory: u64,
    /// Bytes of memory free.
    pub memory_free: u64,
    /// Nanoseconds since its boot.
    pub uptime_nanoseconds: u64,
    /// Kernel objects.
    pub objects: u64,
    /// Services and how often they were restarted.
    pub services: Vec<(String, u32)>,
    /// Containers that run.
    pub containers: u32,
}

/// Processes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessTable {
    /// One a process.
    pub processes: Vec<ProcessRecord>,
}

/// Resource use of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Identity.
    pub id: String,
    /// Name.
    pub name: String,
    /// Its tenant; empty: none.
    pub tenant: String,
    /// Nanoseconds of CPU time.
    pub cpu_nanoseconds: u64,
    /// CPU use since the last reading, in ten-thousandths of a CPU.
    pub cpu_share: u64,
    /// Bytes in use.
    pub memory: u64,
    /// Highest ever.
    pub memory_peak: u64,
    /// Limit; none: the machine's memory.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub threads: u64,
}
