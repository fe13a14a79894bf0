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
    #[command(after_help = "Example:\n  mett machine start --cpus 4 --memory 4g")]
    Start {
        /// CPUs.
        #[arg(long)]
        cpus: Option<u32>,
        /// Memory (for example 2g).
        #[arg(short, long)]
        memory: Option<String>,
    },
    /// Stop the machine, and with it all containers.
    #[command(after_help = "Examples:\n  mett machine stop\n  mett machine stop --force")]
    Stop {
        /// Do not wait for containers to end by themselves.
        #[arg(short, long)]
        force: bool,
    },
    /// Show what the machine is doing.
    #[command(after_help = "Examples:\n  mett machine status\n  mett machine status --format json")]
    Status {
        /// Form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the machine's log.
    #[command(after_help = "Examples:\n  mett machine logs\n  mett machine logs -f -n 20")]
    Logs {
        /// Go on.
        #[arg(short, long)]
        follow: bool,
        /// The last lines only.
        #[arg(short = 'n', long, value_name = "LINES")]
        tail: Option<usize>,
    },
    /// Follow the machine's log.
    #[command(after_help = "Example:\n  mett machine console")]
    Console,
}

#[derive(Subcommand, Debug)]
pub(crate) enum System {
    /// Show which service holds which capability, from the kernel's own tables.
    #[command(
        after_help = "Examples:\n  mett system caps\n  mett system caps --format svg > caps.svg"
    )]
    Caps {
        /// Form of the output; `svg` is a drawing.
        #[arg(long, value_enum, default_value_t)]
        format: Drawing,
    },
}

/// Collect what a bug report needs, without secrets, into a new directory.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett diag\n  mett diag /tmp/report")]
pub(crate) struct Diag {
    /// Where to put it; by default mett-diag-TIME in the working directory.
    directory: Option<PathBuf>,
}

/// Show the versions of this program, the daemon and the machine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett version\n  mett version --format json")]
pub(crate) struct Version {
    /// Form of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  source <(mett completion bash)\n  mett completion zsh > ~/.zfunc/_mett\n  mett completion fish > ~/.config/fish/completions/mett.fish"
)]
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
            Self::Logs { follow, tail } => logs(follow, tail),
            Self::Console => logs(true, None),
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

fn logs(follow: bool, tail: Option<usize>) -> Result<u8> {
    let mut client = Client::connect()?;
    client.request(Request::MachineLogs { follow, tail })?;
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
        let time = daemon::time::rfc3339(daemon::home::now_nanoseconds());
        let time: String = time.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
        let directory =
            self.directory.unwrap_or_else(|| PathBuf::from(format!("mett-diag-{time}")));
        let failed = |cause| CliError::Io { what: directory.display().to_string(), cause };
        // Never among files that are there already.
        std::fs::create_dir(&directory).map_err(failed)?;
        for (name, contents) in files {
            let safe: String =
                name.chars().map(|letter| if letter == '/' { '_' } else { letter }).collect();
            std::fs::write(directory.join(safe), contents).map_err(failed)?;
        }
        say!("{}", directory.display());
        Ok(0)
    }
}

impl Version {
    pub(crate) fn run(self) -> Result<u8> {
        let own = daemon::api::PROGRAM_VERSION;
        let asked = ask(Request::Version);
        let others: serde_json::Value = match &asked {
            Ok(Reply::Document(text)) => serde_json::from_str(text).unwrap_or_default(),
            _ => serde_json::Value::Null,
        };
        let told = |key: &str| match &others[key] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "not running".to_owned(),
            value => value.to_string(),
        };
        if self.format == Format::Json {
            output::json([
                serde_json::json!({"Client": own, "Daemon": others["daemon"], "Machine": others["machine"],
                "Api": others["api"], "Contract": others["contract"]}),
            ]);
        } else {
            say!("Client:   {own}");
            if asked.is_ok() {
                say!("Daemon:   {} (api {})", told("daemon"), told("api"));
                say!("Machine:  {} (contract {})", told("machine"), told("contract"));
            }
        }
        asked.map(|_| 0)
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
