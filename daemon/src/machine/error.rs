//! Why the machine cannot do what it should, in words that say what to do about it.

use super::{
    BOOT_TIMEOUT, LEAST_MEMORY, connection::ConnectionError, qemu::EmulatorError,
    service::ServiceError, system_image::SystemImageError,
};
use std::{io, path::PathBuf};

/// Why the machine cannot do what it should.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// The system image.
    #[error(transparent)]
    SystemImage(#[from] SystemImageError),
    /// The connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The system did not say hello in time.
    #[error(
        "the machine did not come up within {}s: `mett machine logs` shows how far it came",
        BOOT_TIMEOUT.as_secs()
    )]
    BootTimeout,
    /// The client that waited has gone.
    #[error("nobody waits for the container any more")]
    NobodyWaits,
    /// No machine runs.
    #[error("no machine is running (start one with `mett machine start`)")]
    NotRunning,
    /// A machine runs already, with other settings.
    #[error("the machine is running with other settings: stop it first (`mett machine stop`)")]
    AlreadyRunning,
    /// More CPUs than there can be.
    #[error("{asked} CPUs were asked for, but {reason}")]
    BadCpus {
        /// Number asked for.
        asked: u32,
        /// Why not.
        reason: String,
    },
    /// Too little memory.
    #[error("a machine needs at least {} MiB of memory", LEAST_MEMORY >> 20)]
    TooLittleMemory,
    /// A file in the machine's directory.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A blob of the store changed on disk.
    #[error("the stored layer {0} is damaged: remove the image and import it again")]
    DamagedBlob(String),
    /// The machine cannot hold the image.
    #[error(
        "the machine has no memory left for the image: stop containers, remove images, or start \
         the machine with more (`mett machine stop; mett machine start --memory 4g`)"
    )]
    OutOfMemory,
    /// A layer is larger than the memory that the machine has left.
    #[error(
        "a layer of the image needs {needed} MiB and the machine has {free} MiB of memory left: stop \
         containers, remove images, or start the machine with more (`mett machine stop; mett machine \
         start --memory 4g`)"
    )]
    TooLarge {
        /// MiB of the layer.
        needed: u64,
        /// MiB free.
        free: u64,
    },
    /// The store of images refused.
    #[error("the machine refused the image: {0}")]
    ImageRefused(String),
}
