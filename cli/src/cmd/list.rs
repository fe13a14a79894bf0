//! `mett ps`.

use super::Format;
use crate::{client::ask, error::Result, output};
use clap::Args;
use daemon::api::{Reply, Request};

/// List containers.
#[derive(Args, Debug)]
pub(crate) struct Ps {
    /// Also those that do not run.
    #[arg(short, long)]
    all: bool,
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
        let Reply::Containers(containers) = ask(Request::Containers { all: self.all })? else {
            return Ok(1);
        };
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
