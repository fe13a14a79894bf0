//! `mett inspect`.

use super::caps::{self, Drawing};
use crate::{
    client::ask,
    error::{CliError, Result},
    output,
};
use clap::Args;
use daemon::api::{Reply, Request};
use serde::{Deserialize, Serialize};

/// Describe containers as docker does (JSON), or what they can reach.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  mett inspect web\n  mett inspect --caps web\n  mett inspect --gaps web"
)]
pub(crate) struct Inspect {
    /// List every capability the container holds, from the kernel's own table.
    #[arg(long)]
    caps: bool,
    /// List the Linux features that the running container tried and that are not supported, and how often.
    #[arg(long, conflicts_with = "caps")]
    gaps: bool,
    /// Form of the list of capabilities; `svg` is a drawing.
    #[arg(long, value_enum, default_value_t)]
    format: Drawing,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

/// A Linux feature that is not supported.
#[derive(Debug, Serialize, Deserialize)]
struct Gap {
    gap: String,
    count: u64,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<u8> {
        if self.gaps {
            return self.gaps();
        }
        if !self.caps {
            if let Reply::Document(text) = ask(Request::Inspect(self.containers))? {
                output::document(&text);
            }
            return Ok(0);
        }
        let [container] = self.containers.as_slice() else {
            return Err(CliError::Usage("--caps takes one container".to_owned()));
        };
        let Reply::Document(text) = ask(Request::Capabilities(container.clone()))? else {
            return Ok(1);
        };
        caps::show(&[caps::holder(container, &text)?], self.format);
        Ok(0)
    }

    fn gaps(&self) -> Result<u8> {
        let [container] = self.containers.as_slice() else {
            return Err(CliError::Usage("--gaps takes one container".to_owned()));
        };
        let Reply::Document(text) = ask(Request::Gaps(container.clone()))? else {
            return Ok(1);
        };
        let gaps: Vec<Gap> = serde_json::from_str(&text)
            .map_err(|error| CliError::Cut(format!("malformed answer: {error}")))?;
        match self.format {
            Drawing::Json => output::json(gaps.iter().map(|gap| serde_json::json!(gap))),
            Drawing::Table => {
                let row = |gap: &Gap| vec![gap.gap.clone(), gap.count.to_string()];
                output::table(&["GAP", "TIMES"], &gaps.iter().map(row).collect::<Vec<_>>());
            }
            Drawing::Svg => return Err(CliError::Usage("gaps cannot be drawn".to_owned())),
        }
        Ok(0)
    }
}
