//! Commands that change what a container does: start, restart, attach, wait, stop, kill, rm, rename, prune.

use super::{confirmed, each, signal};
use crate::{
    attach::{self, Ended},
    client::{Client, ask},
    error::{CliError, Result},
    terminal::{self, DETACH_KEYS, DetachKeys},
};
use clap::Args;
use daemon::api::{AttachOptions, Reply, Request};
use std::io::IsTerminal as _;

/// Start containers.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett start -a web")]
pub(crate) struct Start {
    /// Attach output, and forward signals.
    #[arg(short, long)]
    attach: bool,
    /// Attach input.
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach.
    #[arg(long, default_value = DETACH_KEYS, value_parser = DetachKeys::parse, value_name = "KEYS")]
    detach_keys: DetachKeys,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Whether a container was made with a terminal.
fn has_terminal(client: &mut Client, container: &str) -> Result<bool> {
    let Reply::Document(text) = client.ask(Request::Inspect(vec![container.to_owned()]))? else {
        return Ok(false);
    };
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(value.pointer("/0/Config/Tty").and_then(serde_json::Value::as_bool).unwrap_or(false))
}

fn run_attached(
    client: &mut Client,
    request: Request,
    stdin: bool,
    is_terminal: bool,
    detach_keys: DetachKeys,
) -> Result<u8> {
    client.request(request)?;
    match attach::run(
        client,
        &attach::Options { stdin, terminal: is_terminal, signals: true, detach_keys },
    )? {
        Ended::Exited(status) => Ok(status),
        Ended::Detached => Ok(0),
    }
}

impl Start {
    pub(crate) fn run(self) -> Result<u8> {
        let [container] = self.containers.as_slice() else {
            if self.attach || self.interactive {
                return Err(CliError::Usage("only one container can be attached".to_owned()));
            }
            return each(&self.containers, start_plain);
        };
        if !self.attach && !self.interactive {
            return each(&self.containers, start_plain);
        }
        let mut client = Client::connect()?;
        let is_terminal = has_terminal(&mut client, container)? && std::io::stdin().is_terminal();
        let size = if is_terminal { terminal::size() } else { None };
        let attach = AttachOptions { stdin: self.interactive, stdout: true, stderr: true, size };
        let request = Request::Start { container: container.clone(), attach: Some(attach) };
        run_attached(&mut client, request, self.interactive, is_terminal, self.detach_keys)
    }
}

fn start_plain(container: &str) -> Result<()> {
    ask(Request::Start { container: container.to_owned(), attach: None })?;
    say!("{container}");
    Ok(())
}

/// Restart containers.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett restart web")]
pub(crate) struct Restart {
    /// Seconds to wait before they are killed.
    #[arg(short, long)]
    time: Option<u64>,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Restart {
    pub(crate) fn run(self) -> Result<u8> {
        each(&self.containers, |container| {
            ask(Request::Stop {
                container: container.to_owned(),
                timeout: self.time,
                restart: true,
            })?;
            say!("{container}");
            Ok(())
        })
    }
}

/// Attach to a running container.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett attach web\n  mett attach --no-stdin web")]
pub(crate) struct Attach {
    /// Do not attach input.
    #[arg(long)]
    no_stdin: bool,
    /// Keys that detach.
    #[arg(long, default_value = DETACH_KEYS, value_parser = DetachKeys::parse, value_name = "KEYS")]
    detach_keys: DetachKeys,
    /// The container.
    container: String,
}

impl Attach {
    pub(crate) fn run(self) -> Result<u8> {
        let mut client = Client::connect()?;
        let is_terminal =
            has_terminal(&mut client, &self.container)? && std::io::stdin().is_terminal();
        let size = if is_terminal { terminal::size() } else { None };
        let options = AttachOptions { stdin: !self.no_stdin, stdout: true, stderr: true, size };
        let request = Request::Attach { container: self.container, options };
        run_attached(&mut client, request, !self.no_stdin, is_terminal, self.detach_keys)
    }
}

/// Wait for containers to end and print their exit statuses.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett wait web")]
pub(crate) struct Wait {
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) fn run(self) -> Result<u8> {
        each(&self.containers, |container| {
            if let Reply::Status(status) = ask(Request::Wait(container.to_owned()))? {
                say!("{status}");
            }
            Ok(())
        })
    }
}

/// Ask containers to end, and kill them after a while.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett stop --time 2 web")]
pub(crate) struct Stop {
    /// Seconds to wait before they are killed.
    #[arg(short, long)]
    time: Option<u64>,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self) -> Result<u8> {
        each(&self.containers, |container| {
            ask(Request::Stop {
                container: container.to_owned(),
                timeout: self.time,
                restart: false,
            })?;
            say!("{container}");
            Ok(())
        })
    }
}

/// Send containers a signal.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett kill --signal HUP web")]
pub(crate) struct Kill {
    /// The signal.
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) fn run(self) -> Result<u8> {
        let signal = signal(&self.signal)?;
        each(&self.containers, |container| {
            ask(Request::Kill { container: container.to_owned(), signal })?;
            say!("{container}");
            Ok(())
        })
    }
}

/// Remove containers.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett rm --force web")]
pub(crate) struct Rm {
    /// Kill those that run.
    #[arg(short, long)]
    force: bool,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self) -> Result<u8> {
        each(&self.containers, |container| {
            ask(Request::Remove { container: container.to_owned(), force: self.force })?;
            say!("{container}");
            Ok(())
        })
    }
}

/// Give a container another name.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett rename web frontend")]
pub(crate) struct Rename {
    /// The container.
    container: String,
    /// Its new name.
    name: String,
}

impl Rename {
    pub(crate) fn run(self) -> Result<u8> {
        ask(Request::Rename { container: self.container, name: self.name })?;
        Ok(0)
    }
}

/// Remove all containers that do not run.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett prune --force")]
pub(crate) struct Prune {
    /// Do not ask.
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self) -> Result<u8> {
        if !self.force && !confirmed("all containers that do not run")? {
            return Ok(1);
        }
        if let Reply::Names(names) = ask(Request::Prune)? {
            names.iter().for_each(|name| say!("{name}"));
        }
        Ok(0)
    }
}
