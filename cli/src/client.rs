//! The connection to the daemon, which is started when there is none.

use crate::{
    error::{CliError, Result},
    progress::Line,
};
use contract::wire::{self, Decoder};
use daemon::{
    api::{FromDaemon, Hello, PROGRAM_VERSION, Reply, Request, ToDaemon, VERSION},
    home::Home,
    server::short_path,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a daemon may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    line: Line,
}

fn cut(error: impl ToString) -> CliError {
    CliError::Cut(error.to_string())
}

/// Sends a message on a stream.
pub(crate) fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> Result<()> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes)
        .map_err(|error| CliError::Usage(format!("the request is too long: {error:?}")))?;
    stream.write_all(&bytes).map_err(cut)
}

impl Client {
    /// Connects, and starts the daemon first if there is none.
    pub(crate) fn connect() -> Result<Self> {
        let home =
            Home::from_environment().map_err(|error| CliError::NoDaemon(error.to_string()))?;
        home.prepare().map_err(|error| CliError::NoDaemon(error.to_string()))?;
        let begun = Instant::now();
        loop {
            let stream = match open(&home) {
                Ok(stream) => stream,
                Err(_) => start(&home)?,
            };
            match Self::greet(stream, &home) {
                // A daemon that is ending takes connections that it never serves.
                Err(CliError::Cut(_)) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    /// Exchanges versions.
    fn greet(stream: UnixStream, home: &Home) -> Result<Self> {
        let mut client = Self { stream, decoder: Decoder::new(), line: Line::default() };
        send(&mut client.stream, &Hello::own())?;
        let hello: Hello = client.read()?;
        if hello.api == VERSION {
            return Ok(client);
        }
        let pid = std::fs::read_to_string(home.join("daemon.pid"));
        Err(CliError::OtherVersion {
            daemon: hello.program,
            daemon_api: hello.api,
            own: PROGRAM_VERSION.to_owned(),
            own_api: VERSION,
            end: pid
                .map_or("pkill -f 'mett daemon'".to_owned(), |pid| format!("kill {}", pid.trim())),
        })
    }

    /// Another handle of the connection, for sending.
    pub(crate) fn sender(&self) -> Result<UnixStream> {
        self.stream.try_clone().map_err(cut)
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &ToDaemon) -> Result<()> {
        send(&mut self.stream, message)
    }

    /// Begins a request.
    pub(crate) fn request(&mut self, request: Request) -> Result<()> {
        self.send(&ToDaemon::Request(Box::new(request)))
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(message) = self.decoder.next().map_err(|error| cut(format!("{error:?}")))? {
                return Ok(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(cut("it has ended")),
                Ok(count) => self.decoder.feed(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut(error)),
            }
        }
    }

    /// The next event but progress and notices, which are shown.
    pub(crate) fn event(&mut self) -> Result<FromDaemon> {
        loop {
            match self.read()? {
                FromDaemon::Progress(progress) => self.line.show(&progress),
                FromDaemon::Notice(text) => {
                    self.line.clear();
                    eprintln!("{text}");
                }
                other => {
                    self.line.clear();
                    return Ok(other);
                }
            }
        }
    }

    /// Carries a request out that gives one answer.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply> {
        self.request(request)?;
        self.finish(|_| Ok(()))
    }

    /// Reads events until the request is over.
    pub(crate) fn finish(
        &mut self,
        mut each: impl FnMut(FromDaemon) -> Result<()>,
    ) -> Result<Reply> {
        loop {
            match self.event()? {
                FromDaemon::Done(reply) => return Ok(reply),
                FromDaemon::Failed(failure) => return Err(CliError::Refused(failure)),
                event => each(event)?,
            }
        }
    }
}

/// Carries a request out on a connection of its own.
pub(crate) fn ask(request: Request) -> Result<Reply> {
    Client::connect()?.ask(request)
}

fn open(home: &Home) -> std::io::Result<UnixStream> {
    let directory = File::open(home.path())?;
    UnixStream::connect(short_path(&directory))
}

/// Starts a daemon that outlives this command, and connects to it.
fn start(home: &Home) -> Result<UnixStream> {
    let word = home.join("daemon.error");
    let _ = std::fs::remove_file(&word);
    let mut child = spawn(home)?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Ok(stream) = open(home) {
            return Ok(stream);
        }
        if child.try_wait().map_err(not_started)?.is_some() {
            match std::fs::read_to_string(&word) {
                // The file could be made, but nothing be written to it.
                Ok(message) if message.is_empty() => {
                    let home = home.path().display();
                    return Err(CliError::NoDaemon(format!("the disk that holds {home} is full")));
                }
                Ok(message) => return Err(CliError::NoDaemon(message)),
                Err(_) => {}
            }
            // Another daemon has the home: one that begins and will answer soon, or one that is ending.
            std::thread::sleep(Duration::from_millis(50));
            child = spawn(home)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(CliError::NoDaemon(format!(
        "it did not answer within {} seconds; see {}",
        PATIENCE.as_secs(),
        home.join("daemon.log").display()
    )))
}

fn not_started(cause: std::io::Error) -> CliError {
    CliError::NoDaemon(cause.to_string())
}

fn spawn(home: &Home) -> Result<Child> {
    let program = std::env::current_exe().map_err(not_started)?;
    Command::new(program)
        .arg("daemon")
        .env("METT_HOME", home.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(not_started)
}
