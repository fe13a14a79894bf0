//! `mett exec`.

use crate::{
    attach::{self, Ended},
    client::Client,
    error::{CliError, Result},
    terminal::{self, DETACH_KEYS, DetachKeys},
};
use clap::Args;
use daemon::api::{ExecOptions, Request};
use std::io::IsTerminal as _;

/// Run a further command in a running container.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett exec -it web sh")]
pub(crate) struct Exec {
    /// Set an environment variable.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Keep standard input open.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Do not attach.
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach.
    #[arg(long, default_value = DETACH_KEYS, value_parser = DetachKeys::parse, value_name = "KEYS")]
    detach_keys: DetachKeys,
    /// The container, the command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        num_args = 2..,
        value_names = ["CONTAINER", "COMMAND"]
    )]
    words: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self) -> Result<u8> {
        let (container, command) = super::run::first_word(&self.words)?;
        if command.is_empty() {
            return Err(CliError::Usage("no command is named".to_owned()));
        }
        let is_terminal = self.tty && !self.detach && std::io::stdin().is_terminal();
        if self.tty && self.interactive && !std::io::stdin().is_terminal() && !self.detach {
            return Err(CliError::Usage("the input device is not a TTY".to_owned()));
        }
        let size = self.tty.then(|| terminal::size().unwrap_or_default());
        let options = ExecOptions {
            command: command.to_vec(),
            environment: self.env,
            working_directory: self.workdir,
            user: self.user,
            interactive: self.interactive,
            terminal: size,
            detach: self.detach,
        };
        let mut client = Client::connect()?;
        client
            .request(Request::Exec { container: container.clone(), options: Box::new(options) })?;
        let attach = attach::Options {
            stdin: self.interactive,
            terminal: is_terminal,
            signals: true,
            detach_keys: self.detach_keys,
        };
        match attach::run(&mut client, &attach)? {
            Ended::Exited(status) => Ok(status),
            Ended::Detached => Ok(0),
        }
    }
}
