//! What the daemon and the personality of one compartment say to each other over the compartment's channel.
//!
//! The personality is untrusted: the daemon checks everything that comes. A *process* here is one the daemon started: number 0 is the compartment's first
//! process, further ones are made by `Exec`. Each process has three streams with their own windows, so that unread output blocks only its producer.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Bytes each side may send on a stream before the other has granted more.
pub const INITIAL_WINDOW: u32 = 64 * 1024;
/// Least that a window is given back by: a compartment that says little is not woken for it.
pub const WINDOW_STEP: u32 = INITIAL_WINDOW / 4;
/// Longest `bytes` in one message.
pub const MAX_BYTES: usize = 16 * 1024;

/// A program to start, in the words of the OCI runtime specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; the first is looked up in PATH when it has no slash.
    #[serde(with = "crate::strings")]
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value` strings.
    #[serde(with = "crate::strings")]
    pub environment: Vec<Vec<u8>>,
    /// Working directory; created if it does not exist.
    #[serde(with = "serde_bytes")]
    pub working_directory: Vec<u8>,
    /// `user[:group]`, names or numbers, empty: root.
    pub user: String,
    /// Further groups.
    pub groups: Vec<u32>,
    /// A terminal instead of three streams.
    pub terminal: Option<WindowSize>,
    /// Keep standard input open (else it is /dev/null).
    pub stdin: bool,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A file system mounted over the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    #[serde(with = "serde_bytes")]
    pub destination: Vec<u8>,
    /// Size limit in bytes (tmpfs).
    pub size: Option<u64>,
    /// Permission bits of its root.
    pub mode: Option<u32>,
    /// Read-only.
    pub read_only: bool,
    /// No programs are run from it.
    pub no_exec: bool,
    /// Set-user-ID and set-group-ID bits count for nothing.
    pub no_set_id: bool,
}

/// One resource limit of the processes (`setrlimit`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Linux's RLIMIT number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Everything the personality needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Host name.
    pub hostname: String,
    /// The root file system refuses writes.
    pub read_only: bool,
    /// tmpfs mounts.
    pub mounts: Vec<Mount>,
    /// Directories that are made where the image lacks them.
    #[serde(with = "crate::strings")]
    pub directories: Vec<Vec<u8>>,
    /// Files the daemon puts over the image before the start (for example `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`): path, contents.
    pub files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// A small init as process 1 that forwards signals and reaps.
    pub init: bool,
    /// What the budget is, so that /proc and /sys/fs/cgroup can tell it.
    pub budget: crate::compartments::Budget,
    /// The first process; started at once, or on `Start` when `wait_for_start`.
    pub process: ProcessSpec,
    /// Do not start the first process before `ToCompartment::Start`.
    pub wait_for_start: bool,
    /// The time of day when the spec was made, in nanoseconds since 1970.
    pub epoch_nanoseconds: u64,
}

/// To the personality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCompartment {
    /// Starts the first process (see `Spec::wait_for_start`).
    Start,
    /// Bytes for a process's standard input.
    Input {
        /// Process.
        process: u32,
        /// Bytes, at most [`MAX_BYTES`]; within the window.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// End of a process's standard input.
    EndInput {
        /// Process.
        process: u32,
    },
    /// The daemon took this many bytes of an output stream.
    Window {
        /// Process.
        process: u32,
        /// Stream: 1 standard output (or the terminal), 2 standard error.
        stream: u8,
        /// Bytes.
        bytes: u32,
    },
    /// Sends a signal to a process the daemon started (to its leader only, as docker does).
    Signal {
        /// Process.
        process: u32,
        /// Linux signal number.
        signal: u8,
    },
    /// The terminal's size changed.
    Resize {
        /// Process.
        process: u32,
        /// New size.
        size: WindowSize,
    },
    /// Starts a further process.
    Exec {
        /// Its number, chosen by the daemon, not in use.
        process: u32,
        /// What to run.
        spec: ProcessSpec,
    },
    /// Asks a question; answered by `Answer` with the same number.
    Ask {
        /// Chosen by the daemon.
        question: u32,
        /// What.
        what: Question,
    },
    /// Part of a tar archive for `Question::PutArchive`; empty: the end.
    ArchiveData {
        /// The question it belongs to.
        question: u32,
        /// Bytes, at most [`MAX_BYTES`].
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The limits changed.
    Budget(crate::compartments::Budget),
}

/// Questions to the personality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Its processes.
    Processes,
    /// How many tasks there are, as Linux's controller of their number counts.
    TaskCount,
    /// Unsupported Linux features that were tried: name and count.
    Gaps,
    /// Information about a path (`docker cp`).
    PathStat(Vec<u8>),
    /// A tar archive of a path; `ArchiveData` follows until an empty one, then the answer.
    GetArchive(Vec<u8>),
    /// Unpacks the `ArchiveData` that follows into a directory.
    PutArchive(Vec<u8>),
}

/// From the personality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromCompartment {
    /// The process's program has begun.
    Started {
        /// Process.
        process: u32,
        /// Its Linux pid.
        pid: u32,
    },
    /// The process could not be started.
    NotStarted {
        /// Process.
        process: u32,
        /// Why, as docker reports it.
        failure: StartFailure,
    },
    /// Output.
    Output {
        /// Process.
        process: u32,
        /// 1 standard output (or the terminal), 2 standard error.
        stream: u8,
        /// Bytes, at most [`MAX_BYTES`]; within the window.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A stream ended.
    EndOutput {
        /// Process.
        process: u32,
        /// Stream.
        stream: u8,
    },
    /// The process took this many bytes of input.
    Window {
        /// Process.
        process: u32,
        /// Bytes.
        bytes: u32,
    },
    /// The process ended; comes after all its output.
    Exited {
        /// Process.
        process: u32,
        /// How.
        status: ExitStatus,
    },
    /// Answers a question.
    Answer {
        /// Number of the question.
        question: u32,
        /// The answer.
        answer: Answer,
    },
    /// Part of the archive of `Question::GetArchive`; empty: the end.
    ArchiveData {
        /// The question it belongs to.
        question: u32,
        /// Bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A line for the machine's log.
    Log(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this status.
    Code(u8),
    /// A signal killed it.
    Signal {
        /// Which.
        signal: u8,
        /// The personality's out-of-memory handler sent it.
        out_of_memory: bool,
    },
}

/// Why a process was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// No such command (127).
    NotFound(String),
    /// It cannot be executed: permission, format, interpreter (126).
    NotExecutable(String),
    /// The user or group does not exist in the image (125).
    UnknownUser(String),
    /// Anything else (125).
    Refused(String),
}

/// Answers to questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The processes.
    Processes(Vec<ProcessRecord>),
    /// The number of tasks.
    TaskCount(u64),
    /// Feature identifiers and counts.
    Gaps(Vec<(String, u64)>),
    /// A path's information.
    PathStat(PathStat),
    /// Done.
    Done,
    /// It did not work; Linux's errno and a message.
    Failed {
        /// Errno.
        errno: u16,
        /// For people.
        message: String,
    },
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process id.
    pub pid: u32,
    /// Parent.
    pub parent: u32,
    /// User id.
    pub user: u32,
    /// State letter as in /proc/PID/stat.
    pub state: u8,
    /// Nanoseconds of CPU time.
    pub cpu_nanoseconds: u64,
    /// Nanoseconds since 1970 at its start.
    pub started: u64,
    /// Terminal name or empty.
    pub terminal: String,
    /// Command line.
    pub command: Vec<u8>,
}

/// What `docker cp` wants to know of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Last component.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Linux mode.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
    /// Target of a symbolic link.
    pub link_target: Vec<u8>,
}
