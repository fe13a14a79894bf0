//! `mett machine`, `mett system`, `mett diag`, `mett version`, `mett completion`, and the daemon itself.

use super::{Format, inspect::KINDS};
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
        /// Form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Draw the graph to a file (SVG).
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
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
            Self::Stop { force } => ask(Request::MachineStop { force }).map(|_| 0),
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

fn show(status: &MachineStatus, format: Format) {
    if format == Format::Json {
        output::json(&serde_json::json!({
            "running": status.running, "pid": status.pid, "accelerator": status.accelerator, "version": status.version, "cpus": status.cpus,
            "memory": status.memory, "memoryFree": status.memory_free, "uptimeNanoseconds": status.uptime_nanoseconds,
            "objects": status.objects, "services": status.services, "containers": status.containers,
        }));
        return;
    }
    if !status.running {
        println!("The machine is not running.");
        return;
    }
    println!(
        "The machine runs {} on {} ({} CPUs).",
        status.version, status.accelerator, status.cpus
    );
    println!(
        "Memory:     {} of {} free",
        output::bytes(status.memory_free),
        output::bytes(status.memory)
    );
    println!("Up for:     {:.1} s", status.uptime_nanoseconds as f64 / 1e9);
    println!("Objects:    {}", status.objects);
    println!("Containers: {}", status.containers);
    for (name, restarts) in &status.services {
        println!("Service:    {name} (restarted {restarts} times)");
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
        let Self::Caps { format, svg } = self;
        let Reply::Document(text) = ask(Request::SystemCapabilities)? else { return Ok(1) };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| CliError::Cut(error.to_string()))?;
        let holders = holders(&value);
        if let Some(path) = svg {
            std::fs::write(&path, draw(&holders))
                .map_err(|cause| CliError::Io { what: path.display().to_string(), cause })?;
            return Ok(0);
        }
        if format == Format::Json {
            output::json(&value);
            return Ok(0);
        }
        for holder in &holders {
            println!("{}", holder.name);
            for held in &holder.held {
                println!(
                    "  {:>4}  {:<12} object {:<10} rights {:#06x}  {}",
                    held.slot, held.kind, held.object, held.rights, held.name
                );
            }
        }
        Ok(0)
    }
}

struct Holder {
    name: String,
    held: Vec<Held>,
}

struct Held {
    slot: u64,
    kind: String,
    rights: u64,
    object: u64,
    name: String,
}

fn holders(value: &serde_json::Value) -> Vec<Holder> {
    let text = |value: &serde_json::Value, name: &str| {
        value.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let number = |value: &serde_json::Value, name: &str| {
        value.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0)
    };
    let held = |record: &serde_json::Value| Held {
        slot: number(record, "slot"),
        kind: KINDS
            .get(number(record, "kind") as usize)
            .map_or_else(|| text(record, "kind"), |kind| (*kind).to_owned()),
        rights: number(record, "rights"),
        object: number(record, "object"),
        name: text(record, "name"),
    };
    let list = value.as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|holder| Holder {
            name: text(holder, "name"),
            held: holder
                .get("capabilities")
                .and_then(|list| list.as_array())
                .map_or_else(Vec::new, |list| list.iter().map(held).collect()),
        })
        .collect()
}

/// Draws holders on the left, objects that more than one of them reaches on the right.
fn draw(holders: &[Holder]) -> String {
    use std::fmt::Write as _;
    let mut objects: Vec<(u64, &str, &str)> = Vec::new();
    for held in holders.iter().flat_map(|holder| &holder.held) {
        if !objects.iter().any(|(object, kind, _)| *object == held.object && *kind == held.kind) {
            objects.push((held.object, &held.kind, &held.name));
        }
    }
    let height = 40 + 24 * objects.len().max(holders.len() * 3);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let y_of = |index: usize| 36 + 24 * index;
    for (index, holder) in holders.iter().enumerate() {
        let y = 36 + 72 * index;
        for held in &holder.held {
            if let Some(target) = objects
                .iter()
                .position(|(object, kind, _)| *object == held.object && *kind == held.kind)
            {
                let _ = writeln!(
                    svg,
                    "<line x1=\"180\" y1=\"{}\" x2=\"560\" y2=\"{}\" stroke=\"#88a\" stroke-width=\"1\"/>",
                    y,
                    y_of(target) - 4
                );
            }
        }
        let _ = writeln!(
            svg,
            "<rect x=\"20\" y=\"{}\" width=\"160\" height=\"28\" rx=\"4\" fill=\"#eef\" stroke=\"#447\"/><text x=\"100\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y - 14,
            y + 5,
            holder.name
        );
    }
    for (index, (object, kind, name)) in objects.iter().enumerate() {
        let _ =
            writeln!(svg, "<text x=\"566\" y=\"{}\">{kind} {object:#x} {name}</text>", y_of(index));
    }
    svg.push_str("</svg>\n");
    svg
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
        println!("{}", self.directory.display());
        Ok(0)
    }
}

impl Version {
    pub(crate) fn run(self) -> Result<u8> {
        println!("mett {}", daemon::api::PROGRAM_VERSION);
        match ask(Request::Version) {
            Ok(Reply::Document(text)) => println!("{text}"),
            Ok(_) => {}
            Err(error) => eprintln!("mett: {error}"),
        }
        Ok(0)
    }
}

impl Completion {
    pub(crate) fn run(self) -> Result<u8> {
        clap_complete::generate(
            self.shell,
            &mut crate::Arguments::command(),
            "mett",
            &mut std::io::stdout(),
        );
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
