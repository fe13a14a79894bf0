//! `mett exec`.

use crate::{
    attach::{self, Ended},
    client::Client,
    error::{CliError, Result},
    terminal,
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
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    detach_keys: String,
    /// The container.
    container: String,
    /// Command and arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self) -> Result<u8> {
        let is_terminal = self.tty && !self.detach && std::io::stdin().is_terminal();
        if self.tty && self.interactive && !std::io::stdin().is_terminal() && !self.detach {
            return Err(CliError::Usage("the input device is not a TTY".to_owned()));
        }
        let size = self.tty.then(|| terminal::size().unwrap_or_default());
        let options = ExecOptions {
            command: self.command,
            environment: self.env,
            working_directory: self.workdir,
            user: self.user,
            interactive: self.interactive,
            terminal: size,
            detach: self.detach,
        };
        let mut client = Client::connect()?;
        client.request(Request::Exec { container: self.container, options: Box::new(options) })?;
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
