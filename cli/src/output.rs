//! Tables, times and lines: everything that commands print themselves.

use std::io::Write as _;

/// Prints a line on standard output, as `println!` does, but ends quietly when nobody reads it.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(&format!($($part)*)) };
}

/// Exit status of a program that wrote to a pipe nobody reads (as if SIGPIPE had ended it).
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;

/// Prints a line.
pub(crate) fn line(text: &str) {
    let mut output = std::io::stdout().lock();
    if let Err(cause) = writeln!(output, "{text}").and_then(|()| output.flush()) {
        finish(&cause);
    }
}

/// Ends the program because standard output cannot be written.
fn finish(cause: &std::io::Error) -> ! {
    if cause.kind() == std::io::ErrorKind::BrokenPipe {
        quit(BROKEN_PIPE);
    }
    eprintln!("mett: standard output: {cause}");
    quit(1)
}

#[expect(clippy::exit, reason = "output that cannot be written ends a command wherever it is")]
fn quit(status: u8) -> ! {
    std::process::exit(status.into())
}

/// Prints a table with aligned columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say!("{}", padded.join("   ").trim_end());
    };
    line(&header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
}

/// A number of bytes in short.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 { format!("{count}{name}") } else { format!("{value:.1}{name}") }
}

/// How long ago a moment was, given in nanoseconds since 1970.
pub(crate) fn ago(moment: u64) -> String {
    let seconds = daemon::home::now_nanoseconds().saturating_sub(moment) / 1_000_000_000;
    match seconds {
        0..=59 => format!("{seconds} seconds ago"),
        60..=3599 => format!("{} minutes ago", seconds / 60),
        3600..=86_399 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Prints a JSON document for people, as docker does.
pub(crate) fn document(text: &str) {
    use serde::Serialize as _;
    let mut shown = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut shown, formatter);
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    match value.and_then(|value| value.serialize(&mut serializer)) {
        Ok(()) => say!("{}", String::from_utf8_lossy(&shown)),
        // The daemon's documents are JSON; one that is not is shown as it is.
        Err(_) => say!("{text}"),
    }
}

/// Prints values as JSON, one a line.
pub(crate) fn json(values: impl IntoIterator<Item = serde_json::Value>) {
    values.into_iter().for_each(|value| say!("{value}"));
}
