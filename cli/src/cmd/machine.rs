//! `mett machine`, `mett system`, `mett diag`, `mett version`, `mett completion`, and the daemon itself.

use super::{
    Format,
    caps::{self, Drawing},
};
use crate::{
    attach,
    client::{Client, ask},
    error::{CliError, Result},
    output, units,
};
use clap::{Args, CommandFactory as _, Subcommand};
use daemon::{
    api::{FromDaemon, MachineSettings, MachineStatus, Reply, Request},
    home::Home,
    server,
};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Machine {
    /// Start the machine.
    Start {
        /// CPUs.
        #[arg(long)]
        cpus: Option<u32>,
        /// Memory (for example 2g).
        #[arg(short, long)]
        memory: Option<String>,
    },
    /// Stop the machine, and with it all containers.
    Stop {
        /// Do not wait for containers to end by themselves.
        #[arg(short, long)]
        force: bool,
    },
    /// Show what the machine is doing.
    Status {
        /// Form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the machine's log.
    Logs {
        /// Go on.
        #[arg(short, long)]
        follow: bool,
    },
    /// Follow the machine's log.
    Console,
}

#[derive(Subcommand, Debug)]
pub(crate) enum System {
    /// Show which service holds which capability, from the kernel's own tables.
    Caps {
        /// Form of the output; `svg` is a drawing.
        #[arg(long, value_enum, default_value_t)]
        format: Drawing,
    },
}

/// Collect what a bug report needs, without secrets, into a directory.
#[derive(Args, Debug)]
pub(crate) struct Diag {
    /// Where to put it.
    #[arg(default_value = "mett-diag")]
    directory: PathBuf,
}

/// Show versions.
#[derive(Args, Debug)]
pub(crate) struct Version {}

/// Print a completion script for a shell.
#[derive(Args, Debug)]
pub(crate) struct Completion {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Serve a home until nobody needs it.
#[derive(Args, Debug)]
pub(crate) struct Daemon {
    /// The home; else METT_HOME or the user's data directory.
    #[arg(long)]
    home: Option<PathBuf>,
}

impl Machine {
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Start { cpus, memory } => {
                let memory = memory.as_deref().map(units::size).transpose()?;
                ask(Request::MachineStart(MachineSettings { cpus, memory }))?;
                Ok(0)
            }
            Self::Stop { force } => stop(force),
            Self::Status { format } => {
                if let Reply::Machine(status) = ask(Request::MachineStatus)? {
                    show(&status, format);
                }
                Ok(0)
            }
            Self::Logs { follow } => logs(follow),
            Self::Console => logs(true),
        }
    }
}

/// Stops the machine, after saying what goes with it.
fn stop(force: bool) -> Result<u8> {
    if let Reply::Machine(status) = ask(Request::MachineStatus)?
        && status.containers > 0
    {
        eprintln!(
            "{} running containers end with the machine, and their writable layers are lost; \
             images, records and logs stay.",
            status.containers
        );
    }
    ask(Request::MachineStop { force }).map(|_| 0)
}

fn show(status: &MachineStatus, format: Format) {
    if format == Format::Json {
        output::json([serde_json::json!({
            "running": status.running, "pid": status.pid, "accelerator": status.accelerator, "version": status.version, "cpus": status.cpus,
            "memory": status.memory, "memoryFree": status.memory_free, "uptimeNanoseconds": status.uptime_nanoseconds,
            "objects": status.objects, "services": status.services, "containers": status.containers,
        })]);
        return;
    }
    if !status.running {
        say!("The machine is not running.");
        return;
    }
    say!("The machine runs {} on {} ({} CPUs).", status.version, status.accelerator, status.cpus);
    say!(
        "Memory:     {} of {} free",
        output::bytes(status.memory_free),
        output::bytes(status.memory)
    );
    say!("Up for:     {:.1} s", status.uptime_nanoseconds as f64 / 1e9);
    say!("Objects:    {}", status.objects);
    say!("Containers: {}", status.containers);
    for (name, restarts) in &status.services {
        say!("Service:    {name} (restarted {restarts} times)");
    }
}

fn logs(follow: bool) -> Result<u8> {
    let mut client = Client::connect()?;
    client.request(Request::MachineLogs { follow })?;
    client.finish(|event| match event {
        FromDaemon::Output { bytes, .. } => attach::write(1, &bytes),
        _ => Ok(()),
    })?;
    Ok(0)
}

impl System {
    pub(crate) fn run(self) -> Result<u8> {
        let Self::Caps { format } = self;
        let Reply::Document(text) = ask(Request::SystemCapabilities)? else { return Ok(1) };
        caps::show(&caps::holders(&text)?, format);
        Ok(0)
    }
}

impl Diag {
    pub(crate) fn run(self) -> Result<u8> {
        let Reply::Files(files) = ask(Request::Diagnose)? else { return Ok(1) };
        let failed = |cause| CliError::Io { what: self.directory.display().to_string(), cause };
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        for (name, contents) in files {
            let safe: String =
                name.chars().map(|letter| if letter == '/' { '_' } else { letter }).collect();
            std::fs::write(self.directory.join(safe), contents).map_err(failed)?;
        }
        say!("{}", self.directory.display());
        Ok(0)
    }
}

impl Version {
    pub(crate) fn run(self) -> Result<u8> {
        say!("mett {}", daemon::api::PROGRAM_VERSION);
        match ask(Request::Version) {
            Ok(Reply::Document(text)) => say!("{text}"),
            Ok(_) => {}
            Err(error) => eprintln!("mett: {error}"),
        }
        Ok(0)
    }
}

impl Completion {
    pub(crate) fn run(self) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "mett", &mut script);
        say!("{}", String::from_utf8_lossy(&script).trim_end());
        Ok(0)
    }
}

impl Daemon {
    pub(crate) fn run(self) -> Result<u8> {
        let home = match &self.home {
            Some(path) => Home::at(path),
            None => {
                Home::from_environment().map_err(|error| CliError::NoDaemon(error.to_string()))?
            }
        };
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| CliError::NoDaemon(error.to_string()))?;
        let served = runtime.block_on(async {
            home.prepare().map_err(|error| error.to_string())?;
            server::log_to(&home).map_err(|error| error.to_string())?;
            server::serve(home.clone()).await.map_err(|error| error.to_string())
        });
        match served {
            Ok(_) => Ok(0),
            Err(message) => {
                server::leave_word(home.path(), &message);
                Err(CliError::NoDaemon(message))
            }
        }
    }
}
