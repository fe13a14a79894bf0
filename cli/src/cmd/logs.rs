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
#[command(
    after_help = "Examples:\n  mett logs --tail 20 -f web\n  mett logs --since 10m --timestamps web"
)]
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
        return Ok(daemon::home::now_nanoseconds()
            .saturating_sub(count.saturating_mul(factor * 1_000_000_000)));
    }
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds.is_finite() && seconds >= 0.0 { Ok((seconds * 1e9) as u64) } else { Err(wrong()) }
}

/// Puts times before lines; a line may come in several pieces.
#[derive(Debug, Default)]
struct Stamps {
    /// Whether a stream stands in the middle of a line: standard output, standard error.
    is_inside: [bool; 2],
}

impl Stamps {
    fn stamp(&mut self, stream: u8, stamp: &str, bytes: &[u8]) -> Vec<u8> {
        let is_inside = if stream == 2 { &mut self.is_inside[1] } else { &mut self.is_inside[0] };
        let mut stamped = Vec::with_capacity(bytes.len() + 32);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !*is_inside {
                stamped.extend_from_slice(stamp.as_bytes());
                stamped.push(b' ');
            }
            stamped.extend_from_slice(piece);
            *is_inside = piece.last() != Some(&b'\n');
        }
        stamped
    }
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
        let mut stamps = Stamps::default();
        client.request(Request::Logs { container: self.container, options })?;
        client.finish(|event| match event {
            FromDaemon::Output { stream, time, bytes } => {
                if self.timestamps {
                    let stamp = daemon::time::rfc3339(time);
                    attach::write(stream, &stamps.stamp(stream, &stamp, &bytes))
                } else {
                    attach::write(stream, &bytes)
                }
            }
            _ => Ok(()),
        })?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_one_time_however_it_was_written() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.stamp(1, "T", b"a\nb"), b"T a\nT b");
        assert_eq!(stamps.stamp(2, "U", b"e\n"), b"U e\n");
        assert_eq!(stamps.stamp(1, "V", b"c\n"), b"c\n");
        assert_eq!(stamps.stamp(1, "W", b""), b"");
    }
}
