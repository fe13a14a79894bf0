//! The daemon's socket: one connection a command.
//!
//! Owns: the socket, the lock that makes the daemon the only one of its home, and its end. Must not know: what requests do. The socket's
//! directory can be entered by its owner only, which is all the authentication there is.

mod client;
mod handle;
mod stream;

use crate::{
    controller::{BeginError, Daemon},
    home::{self, Home, HomeError},
    machine::log::MachineLog,
};
use client::Client;
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::UnixListener, sync::Notify};

/// Name of the socket in the home.
pub const SOCKET: &str = "daemon.sock";
/// How often the daemon looks whether it is still wanted.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// Rounds without a machine and without a client after which it ends.
const IDLE_ROUNDS: u32 = 60;

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The state.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The socket or the lock.
    #[error("the daemon's socket cannot be made: {0}")]
    Io(#[from] io::Error),
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Another daemon serves the home.
    OtherDaemon,
    /// The daemon was asked to end, or nobody needed it.
    Ended,
}

/// Serves a home until it is asked to end, or until nobody has needed it for a while.
///
/// # Errors
/// Every variant of [`ServeError`].
pub async fn serve(home: Home) -> Result<Served, ServeError> {
    home.prepare()?;
    let Some(_lock) = lock(&home)? else { return Ok(Served::OtherDaemon) };
    let daemon = Daemon::begin(home.clone())?;
    let listener = listen(&home)?;
    let socket = std::fs::metadata(home.join(SOCKET))?.ino();
    let clients = Arc::new(AtomicUsize::new(0));
    let end = Arc::new(Notify::new());
    let mut interrupted =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let number = std::process::id().to_string();
    if let Err(error) = home::replace(&home.join("daemon.pid"), number.as_bytes()) {
        // Only people and tests read it, and on a full disk somebody has to remove images.
        tracing::warn!(%error, "the daemon's number cannot be written down");
    }
    tracing::info!(home = %home.path().display(), version = crate::api::PROGRAM_VERSION, "serves");
    let mut idle = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                idle = 0;
                let (daemon, clients, end) =
                    (Arc::clone(&daemon), Arc::clone(&clients), Arc::clone(&end));
                match accepted {
                    Ok((stream, _)) => {
                        clients.fetch_add(1, Ordering::Relaxed);
                        tokio::spawn(async move {
                            if Client::new(stream).serve(&daemon).await {
                                end.notify_one();
                            }
                            clients.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
            () = tokio::time::sleep(LOOK_AROUND) => {
                let present = std::fs::metadata(home.join(SOCKET)).map(|data| data.ino());
                if !present.is_ok_and(|present| present == socket) {
                    tracing::info!("the home is gone");
                    break;
                }
                let used = clients.load(Ordering::Relaxed) > 0 || !daemon.is_idle().await;
                idle = if used { 0 } else { idle + 1 };
                if idle >= IDLE_ROUNDS {
                    tracing::info!("nobody needs the daemon");
                    break;
                }
            }
            () = end.notified() => break,
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    // Nobody can connect to a daemon that is ending.
    let _ = std::fs::remove_file(home.join(SOCKET));
    let _ = std::fs::remove_file(home.join("daemon.pid"));
    if let Err(error) = daemon.stop_machine(true).await {
        tracing::warn!(%error, "the machine did not stop with the daemon");
    }
    Ok(Served::Ended)
}

/// Takes the home's lock; none when another daemon has it.
fn lock(home: &Home) -> io::Result<Option<File>> {
    let path = home.join("lock");
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Makes the socket; one of a daemon that was killed is replaced, which the lock allows.
fn listen(home: &Home) -> io::Result<UnixListener> {
    match std::fs::remove_file(home.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = File::open(home.path())?;
    UnixListener::bind(short_path(&directory))
}

/// The socket's path through an open directory: socket addresses are short.
#[must_use]
pub fn short_path(directory: &File) -> std::path::PathBuf {
    crate::machine::qemu::short_path(directory, SOCKET)
}

/// Sends the daemon's log to a bounded file in its home.
///
/// # Errors
/// What the file system says.
pub fn log_to(home: &Home) -> io::Result<()> {
    let log = MachineLog::named(home.path(), "daemon.log");
    let writer = move || LogLines(log.clone());
    let subscriber =
        tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_target(false).finish();
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)
}

/// Writes whole lines to a bounded log.
struct LogLines(MachineLog);

impl io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an error that prevents the daemon from serving where its client looks for it.
pub fn leave_word(home: &Path, message: &str) {
    let write = || {
        let mut options = File::options();
        let options = options.create(true).write(true).truncate(true).mode(0o600);
        options.open(home.join("daemon.error"))?.write_all(message.as_bytes())
    };
    if let Err(error) = write() {
        tracing::error!(%error, message, "the daemon cannot serve");
    }
}
