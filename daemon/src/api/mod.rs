//! What the command line and the daemon say to each other over the daemon's socket.
//!
//! Messages are framed as on the machine's channels ([`contract::wire`]). Each side begins with [`Hello`], whose form never changes. Then the
//! client sends one [`Request`] after the other; the daemon answers each with any number of events and then exactly one
//! [`FromDaemon::Done`] or [`FromDaemon::Failed`]. A client that goes away ends what it asked for, but never a container.

pub mod requests;

pub use requests::{
    AttachOptions, ContainerSummary, CreateOptions, ExecOptions, ImageSummary, LogOptions,
    MachineSettings, MachineStatus, ProcessTable, Request, TenantSummary, TmpfsMount, Ulimit, Use,
};

use contract::compartment::{ExitStatus, WindowSize};
use serde::{Deserialize, Serialize};

/// Version of these messages.
pub const VERSION: u32 = 4;

/// Version of the program.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// First message of each side. Its form never changes, so that different versions understand that they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the sender.
    pub api: u32,
    /// Version of the program, for people.
    pub program: String,
}

impl Hello {
    /// This program's.
    #[must_use]
    pub fn own() -> Self {
        Self { api: VERSION, program: PROGRAM_VERSION.to_owned() }
    }
}

/// From the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToDaemon {
    /// Begins something.
    Request(Box<Request>),
    /// Standard input of the attached process; within the window the daemon gave.
    Input(#[serde(with = "serde_bytes")] Vec<u8>),
    /// End of standard input of the attached process.
    EndInput,
    /// The size of the client's terminal.
    Resize(WindowSize),
    /// A signal for the attached process, as Linux numbers it.
    Signal(u8),
    /// Ends the attachment, or whatever else streams, and lets the process live.
    Detach,
    /// Part of an archive that the request announced; empty: the end.
    Archive(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// To the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromDaemon {
    /// Something takes time.
    Progress(Progress),
    /// The client is attached to a process, which may begin at once.
    Attached {
        /// The container.
        id: String,
    },
    /// The attached process has begun.
    Started,
    /// Output: stream 1 or 2, and when it was written for logs (nanoseconds since 1970).
    Output {
        /// 1 standard output (or the terminal), 2 standard error.
        stream: u8,
        /// When it was written.
        time: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The client may send this many more bytes of input.
    InputWindow(u32),
    /// The attached process has ended.
    Exited(ExitStatus),
    /// Part of an archive that was asked for.
    Archive(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A line about something that is not an error.
    Notice(String),
    /// One line of a list that goes on, for example statistics.
    Item(Reply),
    /// The request was carried out.
    Done(Reply),
    /// The request was not carried out.
    Failed(Failure),
}

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub what: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 when not known.
    pub total: u64,
}

/// What a request gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing more to say.
    Nothing,
    /// A name or identity.
    Name(String),
    /// Names or identities.
    Names(Vec<String>),
    /// An exit status.
    Status(u8),
    /// Containers.
    Containers(Vec<ContainerSummary>),
    /// Images.
    Images(Vec<ImageSummary>),
    /// A JSON document.
    Document(String),
    /// What the machine is doing.
    Machine(MachineStatus),
    /// Processes.
    Processes(ProcessTable),
    /// Resource use.
    Use(Vec<Use>),
    /// Tenants.
    Tenants(Vec<TenantSummary>),
    /// Files for a bug report: name and contents.
    Files(Vec<(String, Vec<u8>)>),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of reason, which decides the exit status.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// Kinds of failures, as far as a client does different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such container, image or path.
    NotFound,
    /// The state forbids it: a name is taken, a container runs or does not run.
    Conflict,
    /// The request is wrong in itself.
    BadRequest,
    /// No such command in the container (127).
    CommandNotFound,
    /// The command cannot be executed (126).
    CommandNotExecutable,
    /// The machine cannot be started, or has died.
    Machine,
    /// Anything else.
    Internal,
}
