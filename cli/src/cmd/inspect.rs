//! `mett inspect`.

use super::caps::{self, Drawing};
use crate::{
    client::ask,
    error::{CliError, Result},
};
use clap::Args;
use daemon::api::{Reply, Request};

/// Describe containers as docker does (JSON), or what they can reach.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// List every capability the container holds, from the kernel's own table.
    #[arg(long)]
    caps: bool,
    /// Form of the list of capabilities; `svg` is a drawing.
    #[arg(long, value_enum, default_value_t)]
    format: Drawing,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<u8> {
        if !self.caps {
            if let Reply::Document(text) = ask(Request::Inspect(self.containers))? {
                say!("{text}");
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
}
