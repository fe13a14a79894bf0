//! Why the daemon did not do what it was asked: the causes of all parts, and what kind of failure each is for a client.

use crate::{
    api::{Failure, FailureKind},
    container::spec::SpecError,
    image::ImageError,
    machine::{MachineError, service::ServiceError},
};
use contract::{compartment::StartFailure, compartments::Refusal};
use std::io;

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The configuration of a container.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No container has this name.
    #[error("no such container: {0}")]
    UnknownContainer(String),
    /// An abbreviated identity names several containers.
    #[error("container identity '{0}' is ambiguous")]
    AmbiguousContainer(String),
    /// The name is taken.
    #[error(
        "the container name '{name}' is already in use by container {id}: remove or rename that one first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// No tenant has this name.
    #[error("no such tenant: {0}")]
    UnknownTenant(String),
    /// The tenant's name is taken.
    #[error("the tenant '{0}' exists already")]
    TenantTaken(String),
    /// The tenant has containers.
    #[error("the tenant '{name}' has {count} containers: remove them first, or use --force")]
    TenantInUse {
        /// Its name.
        name: String,
        /// How many.
        count: usize,
    },
    /// The name is malformed.
    #[error("'{0}' is not a valid container name: expected [a-zA-Z0-9][a-zA-Z0-9_.-]+")]
    BadName(String),
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The container ended while it was asked something.
    #[error("the container has ended in the meantime (`mett ps -a` says how)")]
    EndedMeanwhile,
    /// The container runs.
    #[error("container {0} is running: stop it first, or use --force")]
    IsRunning(String),
    /// The first process could not be started.
    #[error("{}", start_failure(.0))]
    NotStarted(StartFailure),
    /// The service refused to make the compartment.
    #[error("{}", refusal(.0))]
    Refused(Refusal),
    /// The compartment ended before its first process began.
    #[error("the compartment ended before its first process began{0}")]
    DiedAtStart(String),
    /// A process in the container could not do it.
    #[error("{message}")]
    Inside {
        /// Linux's errno.
        errno: u16,
        /// For people.
        message: String,
    },
    /// A limit that cannot be set.
    #[error("{0}")]
    BadLimit(String),
    /// The state on disk.
    #[error("{}", state_failure(.0))]
    State(#[from] io::Error),
    /// The container did not end.
    #[error("container {0} did not end although it was killed: `mett diag` collects what is known")]
    DoesNotEnd(String),
    /// The client sent something that does not fit.
    #[error("the client sent a message that does not fit")]
    UnexpectedMessage,
}

impl From<ServiceError> for DaemonError {
    fn from(error: ServiceError) -> Self {
        Self::Machine(error.into())
    }
}

fn state_failure(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk that holds mett's home ($METT_HOME) is full: remove images or containers"
                .to_owned()
        }
        _ => format!("the daemon's state cannot be written or read: {cause}"),
    }
}

/// Words why a process was not started, as docker does.
#[must_use]
pub fn start_failure(failure: &StartFailure) -> String {
    match failure {
        StartFailure::NotFound(reason)
        | StartFailure::NotExecutable(reason)
        | StartFailure::UnknownUser(reason)
        | StartFailure::Refused(reason) => reason.clone(),
    }
}

/// Kind of failure of a process that was not started.
#[must_use]
pub fn start_failure_kind(failure: &StartFailure) -> FailureKind {
    match failure {
        StartFailure::NotFound(_) => FailureKind::CommandNotFound,
        StartFailure::NotExecutable(_) => FailureKind::CommandNotExecutable,
        StartFailure::UnknownUser(_) | StartFailure::Refused(_) => FailureKind::BadRequest,
    }
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownCompartment => "the compartment does not exist any more".to_owned(),
        Refusal::UnknownTenant => "the machine does not know the tenant".to_owned(),
        Refusal::TenantInUse(count) => format!("{count} containers are still in the tenant"),
        Refusal::TenantExhausted => {
            "the tenant's memory is exhausted: stop containers in it, or give it more \
             (`mett tenant update --memory`)"
                .to_owned()
        }
        Refusal::IdentityTaken => "the identity of the compartment is taken".to_owned(),
        Refusal::UnknownLayer(_) => "the machine has lost a layer of the image".to_owned(),
        Refusal::TooLittleMemory(needed) => format!(
            "the memory limit is too low: a container needs at least {} MiB",
            needed.div_ceil(1 << 20)
        ),
        Refusal::NoSuchCpu => "the machine has none of the CPUs in --cpuset-cpus".to_owned(),
        Refusal::OutOfMemory => {
            "the machine's memory is exhausted: stop containers, or start the machine with more \
             (`mett machine stop; mett machine start --memory 4g`)"
                .to_owned()
        }
        Refusal::BadSpec(reason) => format!("the machine refused the container: {reason}"),
    }
}

impl DaemonError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Image(ImageError::UnknownImage(_))
            | Self::UnknownContainer(_)
            | Self::UnknownTenant(_) => FailureKind::NotFound,
            Self::Image(ImageError::InUse { .. })
            | Self::NameTaken { .. }
            | Self::TenantTaken(_)
            | Self::TenantInUse { .. }
            | Self::NotRunning(_)
            | Self::EndedMeanwhile
            | Self::IsRunning(_) => FailureKind::Conflict,
            Self::Image(_)
            | Self::Spec(_)
            | Self::BadName(_)
            | Self::BadLimit(_)
            | Self::AmbiguousContainer(_) => FailureKind::BadRequest,
            Self::Inside { errno: 2, .. } => FailureKind::NotFound,
            Self::Machine(_) | Self::Refused(_) | Self::DiedAtStart(_) => FailureKind::Machine,
            Self::NotStarted(failure) => start_failure_kind(failure),
            Self::Inside { .. }
            | Self::State(_)
            | Self::DoesNotEnd(_)
            | Self::UnexpectedMessage => FailureKind::Internal,
        }
    }

    /// What a client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure { kind: self.kind(), message: self.to_string() }
    }
}

/// Exit status of `mett run` for a container that could not be started.
#[must_use]
pub fn exit_code(error: &DaemonError) -> u8 {
    match error.kind() {
        FailureKind::CommandNotFound => 127,
        FailureKind::CommandNotExecutable => 126,
        _ => 125,
    }
}
