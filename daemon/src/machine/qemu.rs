//! Runs the emulator: its command line, its process, and what it prints.
//!
//! The machine's control channel is a socket in the machine's directory that the daemon listens on; the emulator connects to it. The serial
//! port is the emulator's standard output, which the daemon keeps in a bounded log.

use super::{log::MachineLog, probe::Accelerator, system_image::SystemImage};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{UnixListener, UnixStream},
    process::{Child, Command},
};

/// Environment variable that names another emulator.
pub const EMULATOR_VARIABLE: &str = "METT_QEMU";
/// Name of the control channel's socket in the machine's directory.
const SOCKET: &str = "control.sock";
/// How long the emulator may take until it connects.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the emulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// It is not installed.
    #[error(
        "{0} was not found: install QEMU (on Debian and Ubuntu: `sudo apt install \
         qemu-system-x86`), or set METT_QEMU"
    )]
    NotFound(String),
    /// It cannot be started, or its socket cannot be made.
    #[error("the machine cannot be started: {0}")]
    Io(#[from] io::Error),
    /// It ended before it connected.
    #[error("the emulator ended at once ({status}){output}")]
    EndedAtOnce {
        /// Its exit status.
        status: String,
        /// The last it printed.
        output: String,
    },
    /// It did not connect in time.
    #[error("the emulator did not connect to the daemon within {}s", CONNECT_TIMEOUT.as_secs())]
    Silent,
}

/// What a machine is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// How it is run.
    pub accelerator: Accelerator,
}

/// The emulator's program.
#[must_use]
pub fn program() -> OsString {
    let set = std::env::var_os(EMULATOR_VARIABLE).filter(|value| !value.is_empty());
    set.unwrap_or_else(|| "qemu-system-x86_64".into())
}

/// The emulator's arguments. Paths are relative to the machine's directory, because socket paths have to be short.
fn arguments(configuration: &Configuration, image: &SystemImage, seed: &str) -> Vec<OsString> {
    let megabytes = configuration.memory.div_ceil(1 << 20);
    let (accelerator, cpu) = match configuration.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi", "max"),
    };
    let mut arguments: Vec<OsString> = Vec::new();
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
        "-machine",
        "q35",
        "-chardev",
        "stdio,id=serial,signal=off",
        "-serial",
        "chardev:serial",
        "-chardev",
        "socket,id=control,path=control.sock",
        "-device",
        "virtio-serial-pci,max_ports=2,disable-legacy=on",
        "-device",
        // Not a console: the emulator drops what a console says while its socket is full.
        "virtserialport,chardev=control,nr=1,name=mett.control",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
    ];
    arguments.extend(fixed.map(OsString::from));
    let set = [
        ("-accel", accelerator.to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", configuration.cpus.to_string()),
        ("-m", format!("{megabytes}M")),
        ("-append", format!("seed={seed}")),
    ];
    for (option, value) in set {
        arguments.extend([option.into(), value.into()]);
    }
    arguments.extend(["-kernel".into(), image.kernel.clone().into_os_string()]);
    arguments.extend(["-initrd".into(), image.boot_module.clone().into_os_string()]);
    arguments
}

/// A running emulator. Dropping it kills it.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
}

impl Emulator {
    /// Starts the emulator and waits until its control channel is connected.
    ///
    /// # Errors
    /// Every variant of [`EmulatorError`].
    pub async fn start(
        directory: &Path,
        configuration: &Configuration,
        image: &SystemImage,
        log: &MachineLog,
    ) -> Result<(Self, UnixStream), EmulatorError> {
        let listener = listen(directory)?;
        let seed = crate::image::digest::hex(&crate::home::random::<32>()?);
        let program = program();
        let mut child = Command::new(&program)
            .args(arguments(configuration, image, &seed))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    EmulatorError::NotFound(program.to_string_lossy().into_owned())
                }
                _ => error.into(),
            })?;
        if let Some(serial) = child.stdout.take() {
            tokio::spawn(keep(serial, log.clone()));
        }
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(keep(errors, log.clone()));
        }
        let mut emulator = Self { child };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            status = emulator.child.wait() => {
                // What it printed may still be on its way.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
                return Err(EmulatorError::EndedAtOnce { status, output: log.last_line() });
            }
            () = tokio::time::sleep(CONNECT_TIMEOUT) => return Err(EmulatorError::Silent),
        };
        Ok((emulator, stream))
    }

    /// The emulator's process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits a while for the emulator to end by itself, then kills it; says how it ended.
    pub async fn end(mut self, patience: Duration) -> String {
        let status = match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // Killing fails only if it has ended already.
                let _ = self.child.start_kill();
                self.child.wait().await
            }
        };
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

/// Listens on the control channel's socket. The path goes through an open directory, because it has to be short.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(directory.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let handle = std::fs::File::open(directory)?;
    UnixListener::bind(short_path(&handle, SOCKET))
}

/// A path to a file in an open directory that fits into a socket address.
#[must_use]
pub fn short_path(directory: &std::fs::File, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

/// Keeps what the emulator prints.
async fn keep(mut source: impl AsyncRead + Unpin, log: MachineLog) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = source.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        log.append(buffer.get(..length).unwrap_or_default());
    }
}
