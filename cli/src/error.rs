//! What can go wrong, and the exit status it means (those of docker).

use daemon::api::{Failure, FailureKind};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The daemon refused.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The daemon cannot be reached or started.
    #[error("the daemon cannot be started: {0}")]
    NoDaemon(String),
    /// The daemon has another version.
    #[error(
        "the running daemon is mett {daemon} (api {daemon_api}), this is mett {own} (api {own_api}): end the \
         daemon with `{end}` and try again (running containers end with it; images, records and logs stay)"
    )]
    OtherVersion {
        /// The daemon's.
        daemon: String,
        /// Version of the daemon's messages.
        daemon_api: u32,
        /// This program's.
        own: String,
        /// Version of this program's messages.
        own_api: u32,
        /// The command that ends the daemon.
        end: String,
    },
    /// The daemon has gone in the middle.
    #[error("the connection to the daemon was cut: {0}")]
    Cut(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A signal asked this program to end.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// Nobody reads the output any more.
    #[error("nobody reads the output")]
    Unread,
    /// A file or a stream.
    #[error("{what}: {cause}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
}

/// A command's result: its exit status.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Refused(failure) => match failure.kind {
                FailureKind::CommandNotFound => 127,
                FailureKind::CommandNotExecutable => 126,
                FailureKind::NotFound | FailureKind::Conflict => 1,
                FailureKind::BadRequest | FailureKind::Machine | FailureKind::Internal => 125,
            },
            Self::NoDaemon(_) | Self::OtherVersion { .. } | Self::Cut(_) | Self::Usage(_) => 125,
            Self::Interrupted(signal) => {
                u8::try_from(*signal).map_or(1, |signal| 128_u8.saturating_add(signal))
            }
            Self::Unread => crate::output::BROKEN_PIPE,
            Self::Io { .. } => 1,
        }
    }

    /// Tells the user, unless it was wanted: whoever read the output has left, or a signal came.
    pub(crate) fn tell(&self) {
        if !matches!(self, Self::Unread | Self::Interrupted(_)) {
            eprintln!("mett: {self}");
        }
    }

    /// For `run` and `create`: everything that prevents the container from starting is 125, but what the program itself is to blame for.
    pub(crate) fn status_of_run(self) -> (u8, Self) {
        let status = match self.status() {
            status @ (126 | 127 | crate::output::BROKEN_PIPE) => status,
            _ => 125,
        };
        (status, self)
    }
}
