//! `mett cp`: files between a container and the host, with docker's rules for names.
//!
//! What comes from a container is not trusted: it is unpacked below the target only, without owners, set-user-ID bits and devices.

mod landing;

use crate::{
    client::{self, Client, ask},
    error::{CliError, Result},
    progress::Line,
};
use clap::Args;
use daemon::api::{FromDaemon, Progress, Reply, Request, ToDaemon};
use landing::Landing;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

/// Bytes of an archive in one message.
const CHUNK: usize = 16 * 1024;
/// Type bits of a mode, and the types that matter here.
const TYPE: u64 = 0o170_000;
const DIRECTORY: u64 = 0o040_000;
const LINK: u64 = 0o120_000;

/// Copy files between a container and the host.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  mett cp web:/etc/hosts .\n  mett cp config.json web:/etc/\n  mett cp web:/var/log - > log.tar"
)]
pub(crate) struct Cp {
    /// CONTAINER:PATH, a path of the host, or - for a tar archive.
    source: String,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive.
    target: String,
}

fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(container, path)| {
        !container.is_empty() && !container.contains('/') && !path.is_empty()
    })
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> CliError + '_ {
    move |cause| CliError::Io { what: what.to_owned(), cause }
}

impl Cp {
    pub(crate) fn run(self) -> Result<u8> {
        match (split(&self.source), split(&self.target)) {
            (Some((container, path)), None) => copy_out(container, path, &self.target)?,
            (None, Some((container, path))) => copy_in(&self.source, container, path)?,
            _ => {
                return Err(CliError::Usage("exactly one side must be CONTAINER:PATH".to_owned()));
            }
        }
        Ok(0)
    }
}

/// An archive on its way out of a container, as a stream; a refusal is kept for the end.
struct Incoming {
    client: Client,
    ready: VecDeque<u8>,
    is_over: bool,
    refusal: Option<CliError>,
    copied: Copied,
}

/// How much was copied, for the terminal.
#[derive(Default)]
struct Copied {
    bytes: u64,
    line: Line,
}

impl Copied {
    fn add(&mut self, count: usize) {
        self.bytes += count as u64;
        let what = "copying".to_owned();
        self.line.show(&Progress { what, done: self.bytes, total: 0 });
    }
}

impl Incoming {
    fn begin(container: &str, path: &str) -> Result<Self> {
        let mut client = Client::connect()?;
        let (container, path) = (container.to_owned(), path.to_owned());
        client.request(Request::CopyOut { container, path })?;
        let (ready, copied) = (VecDeque::new(), Copied::default());
        Ok(Self { client, ready, is_over: false, refusal: None, copied })
    }

    /// Reads what is left; an error if the archive was not whole.
    fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        if self.refusal.is_some() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Tells how it ended; a refusal explains more than what followed from it.
    fn finish(self, result: io::Result<()>, what: &str) -> Result<()> {
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => result.map_err(failed(what)),
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_over {
            match self.client.event() {
                Ok(FromDaemon::Archive(bytes)) => {
                    self.copied.add(bytes.len());
                    self.ready.extend(bytes);
                }
                Ok(FromDaemon::Done(_)) => self.is_over = true,
                Ok(FromDaemon::Failed(failure)) => {
                    self.refusal = Some(CliError::Refused(failure));
                    self.is_over = true;
                }
                Ok(_) => {}
                Err(error) => {
                    self.refusal = Some(error);
                    self.is_over = true;
                }
            }
        }
        self.ready.read(buffer)
    }
}

/// The signal that asked this program to end while it copied; 0: none.
type Interruption = Arc<AtomicI32>;

/// From here on a signal ends the connection, so that what is half unpacked is removed before the program ends.
fn interruptible(connection: UnixStream) -> Result<Interruption> {
    let interruption = Interruption::default();
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed("signals cannot be caught"))?;
    let told = Arc::clone(&interruption);
    thread::spawn(move || {
        for signal in &mut signals {
            told.store(signal, Ordering::Relaxed);
            // One that has ended already is what is wanted.
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    });
    Ok(interruption)
}

fn copy_out(container: &str, path: &str, target: &str) -> Result<()> {
    let incoming = Incoming::begin(container, path)?;
    let interruption = interruptible(incoming.client.sender()?)?;
    let result = receive(incoming, path, target);
    match interruption.load(Ordering::Relaxed) {
        0 => result,
        signal => Err(CliError::Interrupted(signal)),
    }
}

/// Puts an archive where it belongs.
fn receive(mut incoming: Incoming, path: &str, target: &str) -> Result<()> {
    if target == "-" {
        let copied =
            io::copy(&mut incoming, &mut io::stdout().lock()).and_then(|_| incoming.drain());
        return incoming.finish(copied, "standard output");
    }
    let place = Path::new(target);
    let is_folder = place.is_dir();
    if !is_folder && target.ends_with('/') {
        return Err(CliError::Usage(format!("{target}: no such directory")));
    }
    if fs::metadata(place).is_ok_and(|meta| !meta.is_dir() && !meta.is_file()) {
        return Err(CliError::Usage(format!("{target} is neither a file nor a directory")));
    }
    let beside = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = if is_folder { place } else { beside.unwrap_or(Path::new(".")) };
    let landing = Landing::beside(beside).map_err(failed(target))?;
    let unpacked = unpack(&mut incoming, landing.folder()).and_then(|()| incoming.drain());
    let landed = unpacked.and_then(|()| match path {
        _ if is_folder => landing.merge_into(place),
        // A folder's contents have no name of their own.
        "." => landing.become_folder(place),
        path if path.ends_with("/.") => landing.become_folder(place),
        _ => landing.adopt(place),
    });
    drop(landing);
    incoming.finish(landed, target)
}

/// Unpacks an archive below a folder.
fn unpack(source: &mut impl Read, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(source);
    archive.set_preserve_permissions(false);
    archive.set_preserve_ownerships(false);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
            eprintln!("mett: {} is left out: it is a device", entry.path()?.display());
        } else if !entry.unpack_in(folder)? {
            eprintln!("mett: {} is left out: it leads outside", entry.path()?.display());
        }
    }
    Ok(())
}

/// An archive on its way into a container.
struct Outgoing {
    sender: UnixStream,
    waiting: Vec<u8>,
    copied: Copied,
}

impl Outgoing {
    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.waiting);
        self.copied.add(bytes.len());
        client::send(&mut self.sender, &ToDaemon::Archive(bytes))
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.waiting.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.waiting.extend_from_slice(taken);
        if self.waiting.len() == CHUNK {
            self.send()?;
        }
        Ok(taken.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy_in(source: &str, container: &str, path: &str) -> Result<()> {
    let local = PathBuf::from(source);
    let (directory, name) = if source == "-" {
        (path.to_owned(), String::new())
    } else {
        let meta = fs::symlink_metadata(&local).map_err(failed(source))?;
        destination(&local, meta.is_dir(), container, path)?
    };
    let mut client = Client::connect()?;
    client.request(Request::CopyIn { container: container.to_owned(), path: directory })?;
    let mut outgoing =
        Outgoing { sender: client.sender()?, waiting: Vec::new(), copied: Copied::default() };
    let packed = if source == "-" {
        io::copy(&mut io::stdin().lock(), &mut outgoing).map(|_| ())
    } else {
        pack(&mut outgoing, &local, &name)
    };
    let sent = packed.and_then(|()| {
        if !outgoing.waiting.is_empty() {
            outgoing.send()?;
        }
        // An empty part is the end.
        outgoing.send()
    });
    // A container that refuses the archive stops reading it; its reason is the better one.
    let answer = client.finish(|_| Ok(()));
    match sent {
        Err(cause) if answer.is_ok() => Err(CliError::Io { what: source.to_owned(), cause }),
        _ => answer.map(|_| ()),
    }
}

/// The directory in the container and the name in it, by docker's rules.
fn destination(
    local: &Path,
    is_directory: bool,
    container: &str,
    path: &str,
) -> Result<(String, String)> {
    let whole = local.canonicalize().map_err(failed(&local.display().to_string()))?;
    let source = local.to_string_lossy();
    let own = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let contents = is_directory && (source.ends_with("/.") || source == ".");
    let own = if contents { String::new() } else { own };
    let mut path = path.to_owned();
    // A link that leads to a link leads nowhere new after a few steps.
    for _ in 0..8 {
        let Some((mode, link)) = stat(container, &path)? else { break };
        match mode & TYPE {
            DIRECTORY => return Ok((path, own)),
            LINK if stat(container, &format!("{path}/."))?.is_some() => {
                return Ok((format!("{path}/."), own));
            }
            LINK if link.starts_with('/') => path = link,
            LINK => path = format!("{}/{link}", parent(&path)),
            _ if is_directory => {
                return Err(CliError::Usage(format!(
                    "{container}:{path} is a file: a directory cannot replace it"
                )));
            }
            _ => break,
        }
    }
    if path.ends_with('/') && !contents && !is_directory {
        return Err(CliError::Usage(format!("{container}:{path}: no such directory")));
    }
    let trimmed = path.trim_end_matches('/');
    let name = trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned();
    Ok((parent(trimmed), name))
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((parent, _)) => parent.to_owned(),
    }
}

/// Mode and link target of a path in a container; nothing if there is none.
fn stat(container: &str, path: &str) -> Result<Option<(u64, String)>> {
    let request = Request::PathStat { container: container.to_owned(), path: path.to_owned() };
    match ask(request) {
        Ok(Reply::Document(text)) => {
            let value: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| CliError::Cut(error.to_string()))?;
            let mode = value.get("mode").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let link = value.get("linkTarget").and_then(|link| link.as_str()).unwrap_or_default();
            Ok(Some((mode, link.to_owned())))
        }
        Ok(_) => Ok(None),
        Err(CliError::Refused(failure))
            if failure.kind == daemon::api::FailureKind::NotFound
                && failure.message.contains(path) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Packs a file or a folder under a name; an empty name packs a folder's contents.
fn pack(target: &mut Outgoing, path: &Path, name: &str) -> io::Result<()> {
    let mut builder = tar::Builder::new(target);
    builder.follow_symlinks(false);
    append(&mut builder, path, Path::new(name))?;
    builder.finish()
}

/// Adds a file or a folder with everything in it. Who owns it here means nothing there: root does.
fn append<W: Write>(builder: &mut tar::Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&meta);
    header.set_uid(0);
    header.set_gid(0);
    if meta.is_dir() {
        if !name.as_os_str().is_empty() {
            builder.append_data(&mut header, name, io::empty())?;
        }
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| {
            append(builder, entry, &name.join(entry.file_name().unwrap_or_default()))
        });
    }
    if meta.is_symlink() {
        header.set_size(0);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    if meta.is_file() {
        return builder.append_data(&mut header, name, fs::File::open(path)?);
    }
    eprintln!("mett: {} is left out: it is no file", path.display());
    Ok(())
}
