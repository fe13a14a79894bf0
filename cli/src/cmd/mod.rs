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
pub(crate) mod top;
pub(crate) mod update;

use crate::error::{CliError, Result};
use std::io::IsTerminal as _;

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

/// Asks before something is removed.
///
/// # Errors
/// When nobody can answer.
pub(crate) fn confirmed(what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "prune asks before it removes; use --force where nobody can answer".to_owned(),
        ));
    }
    eprint!("This removes {what}. Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|cause| CliError::Io { what: "standard input".to_owned(), cause })?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<u8> {
    daemon::signal::parse(text).ok_or_else(|| CliError::Usage(format!("unknown signal {text:?}")))
}
