//! `mett run` and `mett create`.

use crate::{
    attach::{self, Ended},
    client::Client,
    cmd,
    error::{CliError, Result},
    terminal::{self, DETACH_KEYS, DetachKeys},
    units,
};
use clap::Args;
use contract::compartments::Budget;
use daemon::api::{AttachOptions, CreateOptions, Reply, Request, TmpfsMount, Ulimit};
use std::{
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
};

/// Options that `run` and `create` share.
#[derive(Args, Debug)]
struct Container {
    /// Set an environment variable (NAME=value, or NAME to take it over).
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one a line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group (name or number).
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Further groups, by number.
    #[arg(long, value_name = "GID")]
    group_add: Vec<u32>,
    /// Replace the image's entrypoint (empty: none).
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Keep standard input open.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Name.
    #[arg(long)]
    name: Option<String>,
    /// Host name.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Memory limit (for example 128m).
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU bandwidth (for example 1.5).
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// CPUs it may run on (for example 0-2,5).
    #[arg(long, value_name = "SET")]
    cpuset_cpus: Option<String>,
    /// CPU weight (2..262144, normal 1024).
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<u64>,
    /// Most processes and threads (0 or -1: no limit).
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The tenant whose budget it shares (see `mett tenant`).
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Resource limit of processes (for example nofile=1024:2048).
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Make the image's files read-only.
    #[arg(long)]
    read_only: bool,
    /// Mount a memory file system (PATH[:size=SIZE,mode=MODE,ro]).
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Run a small init as process 1.
    #[arg(long)]
    init: bool,
    /// Set a label.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Signal that asks it to end.
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds from that signal to the kill.
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// Write the container's identity to a file, which must not exist.
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Not supported yet: directories of the host (a later version).
    #[arg(short, long, value_name = "VOLUME", hide = true)]
    volume: Vec<String>,
    /// Not supported yet: published ports (a later version).
    #[arg(short, long, value_name = "PORT", hide = true)]
    publish: Vec<String>,
    /// Not supported yet: networks (a later version); only `none` is taken.
    #[arg(long, value_name = "NETWORK", hide = true)]
    network: Option<String>,
    /// Not supported: there is no privilege to give.
    #[arg(long, hide = true)]
    privileged: bool,
    /// An imported image's name, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG] or rootfs:DIR.
    /// Then the command and its arguments, in place of the image's: what follows the image is never an option of ours.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_names = ["IMAGE", "COMMAND"]
    )]
    words: Vec<String>,
}

/// Run a command in a new container.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  mett run --rm oci-archive:busybox.tar echo hello\n  mett run -it --rm busybox sh\n  mett run -d --name web --memory 64m --cpus 0.5 busybox httpd -f"
)]
pub(crate) struct Run {
    /// Do not attach: print the identity.
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends.
    #[arg(long)]
    rm: bool,
    /// Forward signals (on by default).
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    sig_proxy: bool,
    /// Keys that detach.
    #[arg(long, default_value = DETACH_KEYS, value_parser = DetachKeys::parse, value_name = "KEYS")]
    detach_keys: DetachKeys,
    #[command(flatten)]
    container: Container,
}

/// Create a container without starting it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett create --name web busybox httpd -f\n  mett start web")]
pub(crate) struct Create {
    /// Remove the container when it ends.
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    container: Container,
}

impl Create {
    pub(crate) fn run(self) -> Result<u8> {
        let mut client = Client::connect()?;
        let id = create(&mut client, &self.container, self.rm, false)?;
        say!("{id}");
        Ok(0)
    }
}

/// Creates a container; its identity.
fn create(
    client: &mut Client,
    container: &Container,
    auto_remove: bool,
    starts_next: bool,
) -> Result<String> {
    if let Some(file) = &container.cidfile
        && file.exists()
    {
        return Err(CliError::Usage(format!("the container ID file {} exists", file.display())));
    }
    let options = CreateOptions { starts_next, ..container.options(auto_remove)? };
    let id = match client.ask(Request::Create(Box::new(options)))? {
        Reply::Name(id) => id,
        other => return Err(CliError::Cut(format!("unexpected answer {other:?}"))),
    };
    if let Some(file) = &container.cidfile {
        std::fs::write(file, &id)
            .map_err(|cause| CliError::Io { what: file.display().to_string(), cause })?;
    }
    Ok(id)
}

impl Run {
    pub(crate) fn run(self) -> Result<u8> {
        match self.try_run() {
            Ok(status) => Ok(status),
            Err(error) => {
                let (status, error) = error.status_of_run();
                error.tell();
                Ok(status)
            }
        }
    }

    fn try_run(&self) -> Result<u8> {
        let is_terminal = self.container.tty && !self.detach;
        if is_terminal && self.container.interactive && !std::io::stdin().is_terminal() {
            return Err(CliError::Usage("the input device is not a TTY".to_owned()));
        }
        let mut client = Client::connect()?;
        let id = create(&mut client, &self.container, self.rm, true)?;
        if self.detach {
            client.ask(Request::Start { container: id.clone(), attach: None })?;
            say!("{id}");
            return Ok(0);
        }
        let size = if is_terminal { terminal::size() } else { None };
        let attach =
            AttachOptions { stdin: self.container.interactive, stdout: true, stderr: true, size };
        client.request(Request::Start { container: id, attach: Some(attach) })?;
        let options = attach::Options {
            stdin: self.container.interactive,
            terminal: is_terminal && std::io::stdin().is_terminal(),
            signals: self.sig_proxy,
            detach_keys: self.detach_keys.clone(),
        };
        match attach::run(&mut client, &options)? {
            Ended::Exited(status) => Ok(status),
            Ended::Detached => Ok(0),
        }
    }
}

impl Container {
    fn options(&self, auto_remove: bool) -> Result<CreateOptions> {
        self.refuse_later_options()?;
        let (image, command) = first_word(&self.words)?;
        let directory = std::env::current_dir()
            .map_err(|cause| CliError::Io { what: "the working directory".to_owned(), cause })?;
        let mut options = CreateOptions {
            image: image.clone(),
            directory,
            command: command.to_vec(),
            name: self.name.clone(),
            environment: self.environment()?,
            working_directory: self.workdir.clone(),
            user: self.user.clone(),
            groups: self.group_add.clone(),
            entrypoint: self.entrypoint.clone(),
            interactive: self.interactive,
            terminal: self.tty,
            hostname: self.hostname.clone(),
            budget: self.budget()?,
            tenant: self.tenant.clone(),
            read_only: self.read_only,
            auto_remove,
            init: self.init,
            stop_timeout: self.stop_timeout,
            ..CreateOptions::default()
        };
        options.stop_signal = self.stop_signal.as_deref().map(cmd::signal).transpose()?;
        options.ulimits = self.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_>>()?;
        options.tmpfs = self.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?;
        let pair = |label: &String| {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            (name.to_owned(), value.to_owned())
        };
        options.labels = self.label.iter().map(pair).collect();
        Ok(options)
    }

    /// Options of later versions are refused by name: a container that silently lacks its volume would be worse.
    fn refuse_later_options(&self) -> Result<()> {
        let refused = |option: &str| Err(CliError::Usage(format!("{option} is not supported yet")));
        if !self.volume.is_empty() {
            return refused("--volume");
        }
        if !self.publish.is_empty() {
            return refused("--publish");
        }
        if self.privileged {
            return Err(CliError::Usage("--privileged is not supported: a compartment holds what it was handed and nothing else".to_owned()));
        }
        match self.network.as_deref() {
            None | Some("none") => Ok(()),
            Some(_) => refused("--network other than none"),
        }
    }

    fn environment(&self) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        let mut add = |text: &str| {
            if text.contains('=') {
                entries.push(text.to_owned());
            } else if let Ok(value) = std::env::var(text) {
                entries.push(format!("{text}={value}"));
            }
        };
        for path in &self.env_file {
            let failed = |cause| CliError::Io { what: path.display().to_string(), cause };
            let file = std::fs::File::open(path).map_err(failed)?;
            for line in std::io::BufReader::new(file).lines() {
                let line = line.map_err(failed)?;
                let line = line.trim_start();
                if !line.is_empty() && !line.starts_with('#') {
                    add(line);
                }
            }
        }
        self.env.iter().for_each(|text| add(text));
        Ok(entries)
    }

    fn budget(&self) -> Result<Budget> {
        Ok(Budget {
            memory: self.memory.as_deref().map(units::size).transpose()?,
            cpu_millis: self.cpus.as_deref().map(units::cpus).transpose()?,
            cpu_weight: self.cpu_shares.map(units::weight).transpose()?,
            cpu_set: self.cpuset_cpus.as_deref().map(units::cpu_set).transpose()?,
            threads: self
                .pids_limit
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0),
        })
    }
}

/// The first word and those after it; an option that is not known has become the first word.
pub(super) fn first_word(words: &[String]) -> Result<(&String, &[String])> {
    match words.split_first() {
        Some((first, _)) if first.starts_with('-') => Err(CliError::Usage(format!(
            "unexpected argument '{first}' (`--help` lists the options)"
        ))),
        Some(split) => Ok(split),
        None => Err(CliError::Usage("no image is named".to_owned())),
    }
}

/// Names of resource limits and Linux's numbers.
const LIMITS: [(&str, u32); 15] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

fn ulimit(text: &str) -> Result<Ulimit> {
    let wrong = || CliError::Usage(format!("invalid ulimit {text:?}: expected NAME=SOFT[:HARD]"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (_, resource) = LIMITS.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?;
    let number = |text: &str| {
        if text == "-1" || text == "unlimited" {
            Ok(u64::MAX)
        } else {
            text.parse().map_err(|_| wrong())
        }
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if soft > hard {
        return Err(CliError::Usage(format!(
            "ulimit {name}: the soft limit is above the hard limit"
        )));
    }
    Ok(Ulimit { name: name.to_owned(), resource: *resource, soft, hard })
}

fn tmpfs(text: &str) -> Result<TmpfsMount> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(CliError::Usage(format!("invalid tmpfs {text:?}: the path must be absolute")));
    }
    // As docker has it: noexec, nosuid and nodev unless said otherwise.
    let mut mount = TmpfsMount {
        path: path.to_owned(),
        size: None,
        mode: None,
        read_only: false,
        exec: false,
        suid: false,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => mount.size = Some(units::size(value)?),
            Some(("mode", value)) => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| CliError::Usage(format!("invalid tmpfs mode {value:?}")))?;
                mount.mode = Some(mode);
            }
            None if option == "ro" => mount.read_only = true,
            None if option == "rw" => mount.read_only = false,
            None if option == "exec" || option == "noexec" => mount.exec = option == "exec",
            None if option == "suid" || option == "nosuid" => mount.suid = option == "suid",
            // A device node opens only what /dev has anyway.
            None if option == "dev" || option == "nodev" => {}
            _ => return Err(CliError::Usage(format!("unknown tmpfs option {option:?}"))),
        }
    }
    Ok(mount)
}
