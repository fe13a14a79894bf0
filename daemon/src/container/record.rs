//! A container's record: what it was made from and what became of it. It survives everything; the container itself does not.

use crate::{
    api::{TmpfsMount, Ulimit},
    image::digest::Digest,
};
use contract::compartments::Budget;
use serde::{Deserialize, Serialize};

/// A container, as it is kept on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Identity: 64 hexadecimal digits.
    pub id: String,
    /// Name, unique among containers.
    pub name: String,
    /// Nanoseconds since 1970.
    pub created: u64,
    /// The image as it was named.
    pub image: String,
    /// The image's identity.
    pub image_id: Digest,
    /// Blobs of the image's layers, lowest first.
    pub layers: Vec<Digest>,
    /// What it runs.
    pub config: Config,
    /// What became of it.
    pub state: State,
}

/// What a container runs, with the image's defaults filled in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// Program that gets the command as arguments.
    pub entrypoint: Vec<String>,
    /// Command or arguments.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// `user[:group]`.
    pub user: String,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Host name.
    pub hostname: String,
    /// Standard input stays open.
    pub interactive: bool,
    /// A terminal.
    pub terminal: bool,
    /// The image's files cannot be changed.
    pub read_only: bool,
    /// Directories that the image means for volumes: made where it lacks them.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Memory file systems.
    pub tmpfs: Vec<TmpfsMount>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// A small init as process 1.
    pub init: bool,
    /// Limits.
    pub budget: SavedBudget,
    /// The tenant whose budget it shares; empty: none.
    #[serde(default)]
    pub tenant: String,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Signal that asks it to end.
    pub stop_signal: u8,
    /// Seconds from that signal to the kill.
    pub stop_timeout: u64,
}

/// The contract's budget, in a form that later versions can still read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBudget {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// 1..=10000.
    pub cpu_weight: Option<u64>,
    /// Bit mask.
    pub cpu_set: Option<u64>,
    /// Processes and threads.
    pub threads: Option<u64>,
}

impl From<Budget> for SavedBudget {
    fn from(budget: Budget) -> Self {
        let Budget { memory, cpu_millis, cpu_weight, cpu_set, threads } = budget;
        Self { memory, cpu_millis, cpu_weight, cpu_set, threads }
    }
}

impl SavedBudget {
    /// The contract's form.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let Self { memory, cpu_millis, cpu_weight, cpu_set, threads } = *self;
        Budget { memory, cpu_millis, cpu_weight, cpu_set, threads }
    }

    /// Takes over the limits that are set.
    pub fn update(&mut self, new: &Budget) {
        self.memory = new.memory.or(self.memory);
        self.cpu_millis = new.cpu_millis.or(self.cpu_millis);
        self.cpu_weight = new.cpu_weight.or(self.cpu_weight);
        self.cpu_set = new.cpu_set.or(self.cpu_set);
        self.threads = new.threads.or(self.threads);
    }
}

/// Where in its life a container is.
///
/// ```text
/// Created --start--> Running --end--> Exited --start--> Running
///    \--failed start--> Created (with its error)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Never started.
    #[default]
    Created,
    /// Its compartment lives.
    Running,
    /// Its compartment is gone.
    Exited,
}

impl Phase {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
        }
    }
}

/// What became of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub phase: Phase,
    /// Exit status, as a shell tells it.
    pub exit_code: u8,
    /// Why it could not be started, or how it died.
    pub error: String,
    /// The out-of-memory handler killed it.
    pub out_of_memory: bool,
    /// Pid of the first process inside.
    pub pid: u32,
    /// Nanoseconds since 1970; 0: never.
    pub started: u64,
    /// Nanoseconds since 1970; 0: never.
    pub finished: u64,
}

impl Record {
    /// The beginning of the identity that people see.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The program and its arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.config.entrypoint.iter().chain(&self.config.command).cloned().collect()
    }
}
