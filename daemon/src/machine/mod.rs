//! The machine: started at first use, reused, and noticed when it dies.
//!
//! Owns: the emulator's process, the connection and the clients of the machine's services. Must not know: containers; it moves blobs and
//! requests. Invariants: at most one machine per home; a machine of a daemon that was killed is ended before another is started.

pub mod connection;
mod error;
pub mod log;
pub mod probe;
pub mod qemu;
pub mod service;
pub mod symbols;
pub mod system_image;

use crate::{
    api::MachineSettings,
    home::{self, Home},
    image::digest::hex,
};
use connection::{Connection, ConnectionError};
use contract::{channel::well_known, compartments, images, images::Digest, system};
pub use error::MachineError;
use log::MachineLog;
use probe::Accelerator;
use qemu::{Configuration, Emulator, EmulatorError};
use serde::{Deserialize, Serialize};
use service::{ServiceClient, ServiceError};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use system_image::SystemImage;
use tokio::sync::{mpsc, watch};

/// Memory of a machine unless it is told otherwise.
const DEFAULT_MEMORY: u64 = 2 << 30;
/// Smallest machine.
const LEAST_MEMORY: u64 = 128 << 20;
/// Most CPUs of a machine.
const MOST_CPUS: u32 = 64;
/// How long the system in the machine may take to say hello; an emulated one on a busy host needs a while.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a machine that was asked to power off may take.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time without a report while a blob is on its way.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a blob that are read at once.
const UPLOAD_PART: usize = 128 * 1024;

/// A death the machine tells of.
pub type Died = (u64, compartments::Death);

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    /// The connection.
    pub connection: Connection,
    /// `services/compartments`.
    pub compartments: ServiceClient<compartments::Response>,
    /// `services/root`.
    pub system: ServiceClient<system::Response>,
    images: ServiceClient<images::Response>,
    /// Blobs the machine holds; held while one is sent.
    blobs: tokio::sync::Mutex<HashSet<Digest>>,
    next_channel: AtomicU32,
    /// When it was started.
    pub started: Instant,
    /// What it was started with.
    pub configuration: Configuration,
    /// The emulator's process.
    pub pid: Option<u32>,
    emulator: tokio::sync::Mutex<Option<Emulator>>,
}

impl Machine {
    /// A number for a new channel.
    #[must_use]
    pub fn new_channel(&self) -> u32 {
        self.next_channel.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes sure that the machine holds a blob. A transfer that has begun goes on when whoever waits for it has gone: the service
    /// waits for every byte, and would take the next request for the rest. `report` says whether anybody still waits.
    ///
    /// # Errors
    /// Those of the service, [`MachineError::OutOfMemory`], [`MachineError::DamagedBlob`] and [`MachineError::NobodyWaits`].
    pub async fn provide(
        self: &Arc<Self>,
        digest: Digest,
        path: &Path,
        mut report: impl FnMut(u64, u64) -> bool,
    ) -> Result<(), MachineError> {
        let (told, mut progress) = watch::channel((0, 0));
        let (machine, path) = (Arc::clone(self), path.to_owned());
        let mut sending =
            tokio::spawn(async move { machine.send_blob(digest, &path, &told).await });
        loop {
            tokio::select! {
                biased;
                result = &mut sending => {
                    return result.unwrap_or_else(|_| Err(ConnectionError::Ended.into()));
                }
                Ok(()) = progress.changed() => {}
                // The machine looks at all of it at the end, and that takes time too.
                () = tokio::time::sleep(REPORT_INTERVAL) => {}
            }
            let (done, length) = *progress.borrow_and_update();
            if !report(done, length) {
                return Err(MachineError::NobodyWaits);
            }
        }
    }

    async fn send_blob(
        &self,
        digest: Digest,
        path: &Path,
        told: &watch::Sender<(u64, u64)>,
    ) -> Result<(), MachineError> {
        let mut blobs = self.blobs.lock().await;
        if blobs.contains(&digest) {
            return Ok(());
        }
        let failed = |cause| MachineError::Io { path: path.to_owned(), cause };
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        let (_, free) = self.status().await?.memory;
        if length > free {
            return Err(MachineError::TooLarge { needed: length >> 20, free: free >> 20 });
        }
        let request = images::Request::Put { digest, length };
        let answer = self.images.call_with(&request, async |sender| {
            let mut done = 0;
            let mut buffer = vec![0; UPLOAD_PART];
            while done < length {
                use tokio::io::AsyncReadExt as _;
                let limit = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
                let part = buffer.get_mut(..limit).unwrap_or_default();
                // The service waits for every byte: one that cannot be read is sent as zero, and the digest tells.
                let read = file.read(part).await.unwrap_or(0);
                let sent = if read == 0 { part.len() } else { read };
                sender.send(part.get(..sent).unwrap_or_default()).await?;
                done += sent as u64;
                // Nobody may be waiting any more.
                told.send_replace((done, length));
            }
            Ok(())
        });
        match answer.await? {
            images::Response::Done => {
                blobs.insert(digest);
                Ok(())
            }
            images::Response::WrongDigest { .. } => Err(MachineError::DamagedBlob(hex(&digest))),
            images::Response::OutOfMemory => Err(MachineError::OutOfMemory),
            images::Response::Refused(reason) => Err(MachineError::ImageRefused(reason)),
            _ => Err(ServiceError::UnexpectedAnswer.into()),
        }
    }

    /// Forgets a blob, when its image was removed.
    ///
    /// # Errors
    /// Those of the service.
    pub async fn forget(&self, digest: Digest) -> Result<(), MachineError> {
        let mut blobs = self.blobs.lock().await;
        if blobs.remove(&digest) {
            self.images.call(&images::Request::Remove { digest }).await?;
        }
        Ok(())
    }

    /// The machine's own state.
    ///
    /// # Errors
    /// Those of the service.
    pub async fn status(&self) -> Result<system::Status, MachineError> {
        match self.system.call(&system::Request::Status).await? {
            system::Response::Status(status) => Ok(status),
            _ => Err(ServiceError::UnexpectedAnswer.into()),
        }
    }

    /// Asks the machine to end, and ends it.
    async fn power_off(&self) {
        let asked = self.system.call(&system::Request::PowerOff);
        // A machine that does not answer is ended all the same.
        let _ = tokio::time::timeout(POWER_OFF_TIMEOUT, asked).await;
        if let Some(emulator) = self.emulator.lock().await.take() {
            let status = emulator.end(POWER_OFF_TIMEOUT).await;
            tracing::info!(status, "the machine has ended");
        }
    }
}

/// What is written down about a running machine, for the next daemon.
#[derive(Debug, Serialize, Deserialize)]
struct Trace {
    pid: u32,
    /// Start time of the process in the kernel's ticks, so that another process with the number is not taken for it.
    started: u64,
}

/// Owns the machine.
#[derive(Debug)]
pub struct MachineManager {
    directory: PathBuf,
    /// The machine's log.
    pub log: MachineLog,
    current: tokio::sync::Mutex<Option<Arc<Machine>>>,
    settings: Mutex<MachineSettings>,
    died: mpsc::UnboundedSender<Died>,
    lost: mpsc::UnboundedSender<String>,
}

impl MachineManager {
    /// A manager for a home; ends the machine of a daemon that was killed. `died` and `lost` are told of dead compartments and machines.
    #[must_use]
    pub fn new(
        home: &Home,
        died: mpsc::UnboundedSender<Died>,
        lost: mpsc::UnboundedSender<String>,
    ) -> Self {
        let directory = home.join("machine");
        end_leftover(&directory);
        let settings = home::read_json(&directory.join("settings.json")).unwrap_or_default();
        Self {
            log: MachineLog::open(&directory),
            directory,
            current: tokio::sync::Mutex::new(None),
            settings: Mutex::new(settings),
            died,
            lost,
        }
    }

    /// The machine, if one runs.
    pub async fn running(&self) -> Option<Arc<Machine>> {
        let current = self.current.lock().await;
        current.as_ref().filter(|machine| machine.connection.is_alive()).cloned()
    }

    /// The machine, started if none runs. `report` is told that it takes a while.
    ///
    /// # Errors
    /// Every variant of [`MachineError`] that concerns starting.
    pub async fn get(&self, report: impl FnOnce()) -> Result<Arc<Machine>, MachineError> {
        let mut current = self.current.lock().await;
        if let Some(machine) = current.as_ref().filter(|machine| machine.connection.is_alive()) {
            return Ok(Arc::clone(machine));
        }
        report();
        let machine = match self.boot().await {
            Ok(machine) => Arc::new(machine),
            Err(error) => {
                self.remove_trace();
                return Err(error);
            }
        };
        *current = Some(Arc::clone(&machine));
        let (lost, connection) = (self.lost.clone(), machine.connection.clone());
        tokio::spawn(async move {
            // The daemon that does not listen any more is ending.
            let _ = lost.send(connection.ended().await);
        });
        Ok(machine)
    }

    /// Starts the machine with these settings, which are kept. `report` is told that it takes a while.
    ///
    /// # Errors
    /// Every variant of [`MachineError`] that concerns starting.
    pub async fn start(
        &self,
        wanted: MachineSettings,
        report: impl FnOnce(),
    ) -> Result<Arc<Machine>, MachineError> {
        let before = self.settings();
        let wanted = MachineSettings {
            cpus: wanted.cpus.or(before.cpus),
            memory: wanted.memory.or(before.memory),
        };
        let configuration = self.configuration(&wanted, Accelerator::Tcg)?;
        if let Some(machine) = self.running().await {
            let same = machine.configuration.cpus == configuration.cpus
                && machine.configuration.memory == configuration.memory;
            return if same { Ok(machine) } else { Err(MachineError::AlreadyRunning) };
        }
        let path = self.directory.join("settings.json");
        home::write_json(&path, &wanted).map_err(|cause| MachineError::Io { path, cause })?;
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        self.get(report).await
    }

    /// Ends the machine, if one runs.
    pub async fn stop(&self) -> bool {
        let Some(machine) = self.current.lock().await.take() else { return false };
        machine.power_off().await;
        self.remove_trace();
        true
    }

    /// Ends what is left of a machine whose connection has ended.
    pub async fn clear(&self) {
        let mut current = self.current.lock().await;
        let Some(machine) = current.take_if(|machine| !machine.connection.is_alive()) else {
            return;
        };
        drop(current);
        if let Some(emulator) = machine.emulator.lock().await.take() {
            let status = emulator.end(Duration::ZERO).await;
            tracing::info!(status, "the emulator has ended");
        }
        self.remove_trace();
    }

    /// The end of the machine's log, with the functions of the addresses in it.
    #[must_use]
    pub fn named_log(&self, length: u64) -> Vec<u8> {
        symbols::Symbols::find(&self.directory).annotate(&self.log.tail(length))
    }

    fn settings(&self) -> MachineSettings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn configuration(
        &self,
        settings: &MachineSettings,
        accelerator: Accelerator,
    ) -> Result<Configuration, MachineError> {
        let host = std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(MOST_CPUS));
        let cpus = settings.cpus.unwrap_or_else(|| host.min(4));
        let bad = |reason: String| Err(MachineError::BadCpus { asked: cpus, reason });
        if cpus == 0 {
            return bad("a machine has at least one".to_owned());
        }
        if cpus > MOST_CPUS.min(host.max(8)) {
            return bad(format!("this host has {host}"));
        }
        let memory = settings.memory.unwrap_or(DEFAULT_MEMORY);
        if memory < LEAST_MEMORY {
            return Err(MachineError::TooLittleMemory);
        }
        Ok(Configuration { cpus, memory, accelerator })
    }

    async fn boot(&self) -> Result<Machine, MachineError> {
        let image = SystemImage::find(&self.directory)?;
        let accelerator = probe::choose(&self.directory).await;
        let configuration = self.configuration(&self.settings(), accelerator)?;
        let started = Instant::now();
        let (emulator, stream) =
            Emulator::start(&self.directory, &configuration, &image, &self.log).await?;
        self.write_trace(&emulator)?;
        let opened = tokio::time::timeout(BOOT_TIMEOUT, Connection::open(stream)).await;
        let connection = match opened {
            Ok(Ok(connection)) => connection,
            Ok(Err(ConnectionError::Ended)) => {
                let status = emulator.end(POWER_OFF_TIMEOUT).await;
                let output = self.log.last_line();
                return Err(EmulatorError::EndedAtOnce { status, output }.into());
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(MachineError::BootTimeout),
        };
        let died = self.died.clone();
        let compartments =
            ServiceClient::new(&connection, well_known::COMPARTMENTS, move |answer| {
                match answer {
                    compartments::Response::Died { id, death } => {
                        // The daemon that does not listen any more is ending.
                        let _ = died.send((id, death));
                        None
                    }
                    answer => Some(answer),
                }
            });
        let images = ServiceClient::new(&connection, well_known::IMAGES, Some);
        let held = match images.call(&images::Request::List).await? {
            images::Response::Blobs(blobs) => blobs.into_iter().map(|(digest, _)| digest).collect(),
            _ => return Err(ServiceError::UnexpectedAnswer.into()),
        };
        tracing::info!(?configuration, elapsed = ?started.elapsed(), "the machine is up");
        Ok(Machine {
            compartments,
            system: ServiceClient::new(&connection, well_known::SYSTEM, Some),
            images,
            blobs: tokio::sync::Mutex::new(held),
            next_channel: AtomicU32::new(well_known::FIRST_COMPARTMENT),
            started,
            configuration,
            pid: emulator.pid(),
            emulator: tokio::sync::Mutex::new(Some(emulator)),
            connection,
        })
    }

    fn trace_path(&self) -> PathBuf {
        self.directory.join("process.json")
    }

    fn write_trace(&self, emulator: &Emulator) -> Result<(), MachineError> {
        let Some(pid) = emulator.pid() else { return Ok(()) };
        let trace = Trace { pid, started: start_time(pid).unwrap_or_default() };
        let path = self.trace_path();
        home::write_json(&path, &trace).map_err(|cause| MachineError::Io { path, cause })
    }

    fn remove_trace(&self) {
        // Without the file there is nothing to remove.
        let _ = std::fs::remove_file(self.trace_path());
    }
}

/// When a process was started, in ticks since the host's boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, up to the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Ends the emulator of a daemon that was killed.
fn end_leftover(directory: &Path) {
    let path = directory.join("process.json");
    let Ok(trace) = home::read_json::<Trace>(&path) else { return };
    if start_time(trace.pid) == Some(trace.started)
        && let Some(pid) = i32::try_from(trace.pid).ok().and_then(rustix::process::Pid::from_raw)
    {
        tracing::info!(pid = trace.pid, "ends the machine of a daemon that was killed");
        // It may end by itself in the meantime.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = std::fs::remove_file(path);
}
