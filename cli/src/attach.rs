//! Standard streams, terminal and signals of an attached process.

use crate::{
    client::{self, Client},
    error::{CliError, Result},
    terminal::{self, DetachKeys, Raw},
};
use contract::compartment::ExitStatus;
use daemon::api::{FromDaemon, ToDaemon};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

/// Bytes read from standard input at once.
const CHUNK: usize = 8 * 1024;
/// Signals that are forwarded (those docker forwards, but for the ones that stop or concern this process).
const FORWARDED: [i32; 12] = [1, 2, 3, 10, 12, 14, 15, 18, 23, 28, 29, 30];

/// What to connect.
#[derive(Debug)]
pub(crate) struct Options {
    /// Send standard input.
    pub(crate) stdin: bool,
    /// A terminal on both sides.
    pub(crate) terminal: bool,
    /// Forward signals.
    pub(crate) signals: bool,
    /// Detach keys.
    pub(crate) detach_keys: DetachKeys,
}

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process ended with docker's exit status.
    Exited(u8),
    /// The user detached.
    Detached,
}

/// The exit status docker gives.
pub(crate) fn status(exit: ExitStatus) -> u8 {
    match exit {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal { signal, .. } => 128_u8.saturating_add(signal),
    }
}

/// Bytes of input the daemon takes, shared with the thread that reads standard input.
#[derive(Default)]
struct Window {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Window {
    fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += bytes;
        self.changed.notify_all();
    }
    fn take(&self, wanted: usize) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 == 0 && !state.1 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.1 {
            return None;
        }
        let count = wanted.min(usize::try_from(state.0).unwrap_or(usize::MAX));
        state.0 -= count as u64;
        Some(count)
    }
    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

/// Runs an attachment whose request was sent, until it ends.
pub(crate) fn run(client: &mut Client, options: &Options) -> Result<Ended> {
    let keys = options.detach_keys.clone();
    let raw = if options.terminal { Some(Raw::enter()?) } else { None };
    let window = Arc::new(Window::default());
    let mut exit = None;
    let mut is_attached = false;
    let mut keys = Some(keys);
    let result = client_loop(client, |client, event| match event {
        FromDaemon::Attached { .. } => {
            if !is_attached {
                is_attached = true;
                if options.stdin
                    && let Some(keys) = keys.take()
                {
                    read_input(client.sender()?, Arc::clone(&window), keys, options.terminal);
                }
                watch_signals(client.sender()?, options)?;
            }
            Ok(())
        }
        FromDaemon::InputWindow(bytes) => {
            window.add(bytes.into());
            Ok(())
        }
        FromDaemon::Output { stream, bytes, .. } => write(stream, &bytes),
        FromDaemon::Exited(status) => {
            exit = Some(status);
            Ok(())
        }
        _ => Ok(()),
    });
    window.close();
    drop(raw);
    result?;
    Ok(exit.map_or(Ended::Detached, |exit| Ended::Exited(status(exit))))
}

fn client_loop(
    client: &mut Client,
    mut each: impl FnMut(&mut Client, FromDaemon) -> Result<()>,
) -> Result<()> {
    loop {
        match client.event()? {
            FromDaemon::Done(_) => return Ok(()),
            FromDaemon::Failed(failure) => return Err(CliError::Refused(failure)),
            event => each(client, event)?,
        }
    }
}

/// Writes output where it belongs.
pub(crate) fn write(stream: u8, bytes: &[u8]) -> Result<()> {
    let written = if stream == 2 {
        let mut error = std::io::stderr().lock();
        error.write_all(bytes).and_then(|()| error.flush())
    } else {
        let mut output = std::io::stdout().lock();
        output.write_all(bytes).and_then(|()| output.flush())
    };
    match written {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::Unread),
        Err(cause) => Err(CliError::Io { what: "output cannot be written".to_owned(), cause }),
    }
}

/// Sends standard input from a thread of its own. It ends with the program.
fn read_input(
    mut sender: UnixStream,
    window: Arc<Window>,
    mut keys: DetachKeys,
    is_terminal: bool,
) {
    thread::spawn(move || {
        let mut buffer = [0; CHUNK];
        let mut stdin = std::io::stdin().lock();
        loop {
            let count = match stdin.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    let _ = client::send(&mut sender, &ToDaemon::EndInput);
                    return;
                }
                Ok(count) => count,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            let (bytes, detach) =
                if is_terminal { keys.filter(bytes) } else { (bytes.to_vec(), false) };
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let Some(now) = window.take(rest.len()) else { return };
                let (first, more) = rest.split_at(now);
                if client::send(&mut sender, &ToDaemon::Input(first.to_vec())).is_err() {
                    return;
                }
                rest = more;
            }
            if detach {
                let _ = client::send(&mut sender, &ToDaemon::Detach);
                return;
            }
        }
    });
}

/// Forwards signals and changes of the terminal's size from a thread of its own.
fn watch_signals(mut sender: UnixStream, options: &Options) -> Result<()> {
    const WINCH: i32 = 28;
    let wanted: Vec<i32> = match (options.terminal, options.signals) {
        (true, _) => vec![WINCH, 1, 15],
        (false, true) => FORWARDED.to_vec(),
        (false, false) => return Ok(()),
    };
    let mut signals = signal_hook::iterator::Signals::new(wanted)
        .map_err(|cause| CliError::Io { what: "signals cannot be caught".to_owned(), cause })?;
    let is_terminal = options.terminal;
    if is_terminal && let Some(size) = terminal::size() {
        client::send(&mut sender, &ToDaemon::Resize(size))?;
    }
    thread::spawn(move || {
        for signal in &mut signals {
            let message = if signal == WINCH && is_terminal {
                match terminal::size() {
                    Some(size) => ToDaemon::Resize(size),
                    None => continue,
                }
            } else {
                ToDaemon::Signal(u8::try_from(signal).unwrap_or(15))
            };
            if client::send(&mut sender, &message).is_err() {
                return;
            }
        }
    });
    Ok(())
}
