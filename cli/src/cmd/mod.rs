//! The commands, one file for each or for a few that belong together.

pub(crate) mod caps;
pub(crate) mod copy;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod run;
pub(crate) mod stats;
pub(crate) mod tenant;
pub(crate) mod update;

use crate::error::{CliError, Result};

/// The form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Does something for each name; the last failure decides the status, all are shown.
pub(crate) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut status = 0;
    for name in names {
        if let Err(error) = act(name) {
            eprintln!("mett: {error}");
            status = error.status();
        }
    }
    Ok(status)
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<u8> {
    daemon::signal::parse(text).ok_or_else(|| CliError::Usage(format!("unknown signal {text:?}")))
}
