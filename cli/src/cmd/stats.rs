//! `mett stats`.

use super::Format;
use crate::{client::Client, error::Result, output};
use clap::Args;
use daemon::api::{FromDaemon, Reply, Request, Use};

/// Show what running containers use.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett stats --no-stream\n  mett stats --format json web")]
pub(crate) struct Stats {
    /// Once, instead of again and again.
    #[arg(long)]
    no_stream: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The containers; all that run if none are named.
    containers: Vec<String>,
}

fn show(uses: &[Use], format: Format) {
    if format == Format::Json {
        let list = uses.iter().map(|u| {
            serde_json::json!({"ID": u.id, "Name": u.name, "Tenant": u.tenant, "CPUNanoseconds": u.cpu_nanoseconds, "CPUPercent": u.cpu_share as f64 / 100.0,
                "Memory": u.memory, "MemoryPeak": u.memory_peak, "MemoryLimit": u.memory_limit, "PIDs": u.threads})
        });
        output::json(list);
        return;
    }
    let rows: Vec<Vec<String>> = uses
        .iter()
        .map(|u| {
            let limit = u.memory_limit.map_or_else(|| "no limit".to_owned(), output::bytes);
            vec![
                u.id.chars().take(12).collect(),
                u.name.clone(),
                format!("{}.{:02}%", u.cpu_share / 100, u.cpu_share % 100),
                format!("{} / {limit}", output::bytes(u.memory)),
                output::bytes(u.memory_peak),
                u.threads.to_string(),
            ]
        })
        .collect();
    output::table(&["CONTAINER ID", "NAME", "CPU", "MEMORY / LIMIT", "PEAK", "PIDS"], &rows);
}

impl Stats {
    pub(crate) fn run(self) -> Result<u8> {
        let mut client = Client::connect()?;
        client.request(Request::Stats { containers: self.containers, stream: !self.no_stream })?;
        let format = self.format;
        let last = client.finish(|event| {
            if let FromDaemon::Item(Reply::Use(uses)) = event {
                show(&uses, format);
            }
            Ok(())
        })?;
        if let Reply::Use(uses) = last {
            show(&uses, format);
        }
        Ok(0)
    }
}
