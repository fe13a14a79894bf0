//! `mett ps`.

use super::Format;
use crate::{
    client::ask,
    error::{CliError, Result},
    output,
};
use clap::Args;
use daemon::api::{ContainerSummary, Reply, Request};

/// List containers.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett ps -a --filter status=exited\n  mett ps --format json")]
pub(crate) struct Ps {
    /// Also those that do not run.
    #[arg(short, long)]
    all: bool,
    /// Only those that something is true of: id=, name=, label=KEY[=VALUE], status=, ancestor=IMAGE. Of several with the same key one must be true, of labels all.
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    /// Identities only.
    #[arg(short, long)]
    quiet: bool,
    /// Do not cut identities and commands.
    #[arg(long)]
    no_trunc: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ps {
    pub(crate) fn run(self) -> Result<u8> {
        let filters =
            self.filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
        // Who asks for a state wants those that do not run, too.
        let all = self.all || filters.iter().any(|filter| filter.key == "status");
        let Reply::Containers(mut containers) = ask(Request::Containers { all })? else {
            return Ok(1);
        };
        containers.retain(|container| Filter::all_admit(&filters, container));
        if self.format == Format::Json {
            let list = containers.iter().map(|c| {
                serde_json::json!({"ID": c.id, "Names": c.name, "Image": c.image, "Command": c.command, "Created": c.created / 1_000_000_000,
                    "State": c.state, "Status": c.status, "Labels": c.labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()})
            });
            output::json(list);
            return Ok(0);
        }
        let cut = |text: &str, length: usize| {
            if self.no_trunc { text.to_owned() } else { text.chars().take(length).collect() }
        };
        if self.quiet {
            containers.iter().for_each(|container| say!("{}", cut(&container.id, 12)));
            return Ok(0);
        }
        let rows: Vec<Vec<String>> = containers
            .iter()
            .map(|container| {
                vec![
                    cut(&container.id, 12),
                    container.image.clone(),
                    cut(&container.command.join(" "), 24),
                    output::ago(container.created),
                    container.status.clone(),
                    container.name.clone(),
                ]
            })
            .collect();
        output::table(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAME"], &rows);
        Ok(0)
    }
}

/// States a container can be asked for, as docker names them.
const STATES: &[&str] =
    &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// A condition of `--filter`.
struct Filter<'a> {
    key: &'a str,
    value: &'a str,
}

impl<'a> Filter<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("invalid filter {text:?}: expected KEY=VALUE"))
        })?;
        if !["id", "name", "label", "status", "ancestor"].contains(&key) {
            return Err(CliError::Usage(format!("unknown filter {key:?}")));
        }
        if key == "status" && !STATES.contains(&value) {
            let states = STATES.join(", ");
            return Err(CliError::Usage(format!("unknown state {value:?}: expected {states}")));
        }
        Ok(Self { key, value })
    }

    /// Whether all keys are satisfied.
    fn all_admit(filters: &[Self], container: &ContainerSummary) -> bool {
        filters.iter().all(|filter| {
            filter.admits(container)
                || filter.key != "label"
                    && filters
                        .iter()
                        .any(|other| other.key == filter.key && other.admits(container))
        })
    }

    fn admits(&self, container: &ContainerSummary) -> bool {
        let value = self.value;
        match self.key {
            "id" => container.id.starts_with(value),
            "name" => container.name.contains(value),
            "status" => container.state == value,
            "ancestor" => {
                container.image == value || container.image.strip_suffix(":latest") == Some(value)
            }
            _ => {
                let (key, wanted) =
                    value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                container.labels.iter().any(|(label, value)| {
                    label == key && wanted.is_none_or(|wanted| wanted == value)
                })
            }
        }
    }
}
