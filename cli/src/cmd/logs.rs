//! `mett logs`.

use crate::{
    attach,
    client::Client,
    error::{CliError, Result},
};
use clap::Args;
use daemon::api::{FromDaemon, LogOptions, Request};

/// Show a container's output.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Go on until the container ends.
    #[arg(short, long)]
    follow: bool,
    /// The last lines only.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// From this time on (seconds since 1970, or an age such as 10m).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each piece was written.
    #[arg(short, long)]
    timestamps: bool,
    /// The container.
    container: String,
}

/// A time in nanoseconds since 1970.
fn time(text: &str) -> Result<u64> {
    let wrong = || {
        CliError::Usage(format!(
            "invalid time {text:?}: expected seconds since 1970 or an age such as 90s, 10m, 2h"
        ))
    };
    let units = [('s', 1_u64), ('m', 60), ('h', 3600), ('d', 86_400)];
    if let Some((number, factor)) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(*unit).map(|number| (number, factor)))
    {
        let count: u64 = number.parse().map_err(|_| wrong())?;
        return Ok(daemon::home::now().saturating_sub(count.saturating_mul(factor * 1_000_000_000)));
    }
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds.is_finite() && seconds >= 0.0 { Ok((seconds * 1e9) as u64) } else { Err(wrong()) }
}

impl Logs {
    pub(crate) fn run(self) -> Result<u8> {
        let tail = match self.tail.as_deref() {
            None | Some("all") => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| CliError::Usage(format!("invalid number of lines {text:?}")))?,
            ),
        };
        let since = self.since.as_deref().map(time).transpose()?;
        let until = self.until.as_deref().map(time).transpose()?;
        let options = LogOptions { follow: self.follow, tail, since, until };
        let mut client = Client::connect()?;
        client.request(Request::Logs { container: self.container, options })?;
        client.finish(|event| match event {
            FromDaemon::Output { stream, time, bytes } => {
                if self.timestamps {
                    let stamp = daemon::time::rfc3339(time);
                    attach::write(stream, format!("{stamp} ").as_bytes())?;
                }
                attach::write(stream, &bytes)
            }
            _ => Ok(()),
        })?;
        Ok(0)
    }
}
