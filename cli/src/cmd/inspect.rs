//! `mett inspect`.

use super::Format;
use crate::{
    client::ask,
    error::{CliError, Result},
    output,
};
use clap::Args;
use daemon::api::{Reply, Request};

/// Describe containers as docker does (JSON), or what they can reach.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// List every capability the container holds, from the kernel's own table.
    #[arg(long)]
    caps: bool,
    /// Form of the list of capabilities.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Names of the kinds of kernel objects.
pub(crate) const KINDS: [&str; 10] = [
    "?",
    "Domain",
    "Space",
    "Thread",
    "Endpoint",
    "Gate",
    "Reply",
    "Notification",
    "Irq",
    "Hardware",
];

impl Inspect {
    pub(crate) fn run(self) -> Result<u8> {
        if !self.caps {
            if let Reply::Document(text) = ask(Request::Inspect(self.containers))? {
                println!("{text}");
            }
            return Ok(0);
        }
        let [container] = self.containers.as_slice() else {
            return Err(CliError::Usage("--caps takes one container".to_owned()));
        };
        let Reply::Document(text) = ask(Request::Capabilities(container.clone()))? else {
            return Ok(1);
        };
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if self.format == Format::Json {
            output::json(&value);
            return Ok(0);
        }
        let field = |record: &serde_json::Value, name: &str| match record.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let records = value.as_array().cloned().unwrap_or_default();
        let rows: Vec<Vec<String>> = records
            .iter()
            .map(|record| {
                let kind =
                    record.get("kind").and_then(serde_json::Value::as_u64).unwrap_or(0) as usize;
                let kind = KINDS
                    .get(kind)
                    .map_or_else(|| field(record, "kind"), |name| (*name).to_owned());
                vec![
                    field(record, "slot"),
                    kind,
                    field(record, "rights"),
                    field(record, "object"),
                    field(record, "name"),
                ]
            })
            .collect();
        output::table(&["SLOT", "KIND", "RIGHTS", "OBJECT", "HANDED AS"], &rows);
        Ok(0)
    }
}
