//! `mett top`: the processes of a container, in the columns that ps(1) has for them.

use crate::{
    client::ask,
    error::{CliError, Result},
    output,
};
use clap::Args;
use contract::compartment::ProcessRecord;
use daemon::api::{Reply, Request};

/// Show the processes of a container.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  mett top web\n  mett top web -ef\n  mett top web -o pid,stat,args"
)]
pub(crate) struct Top {
    /// The container.
    container: String,
    /// Options of ps(1): -o with columns; -A, -e, -f and -w change nothing, because all processes are shown in full.
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// A column: its names for `-o`, its head, and what stands in it.
struct Column {
    names: &'static [&'static str],
    head: &'static str,
    text: fn(&ProcessRecord) -> String,
}

const COLUMNS: [Column; 9] = [
    Column { names: &["uid", "user", "euid"], head: "UID", text: |p| p.user.to_string() },
    Column { names: &["pid"], head: "PID", text: |p| p.pid.to_string() },
    Column { names: &["ppid"], head: "PPID", text: |p| p.parent.to_string() },
    Column { names: &["stat", "state", "s"], head: "STAT", text: |p| char::from(p.state).into() },
    Column { names: &["stime", "start"], head: "STIME", text: started },
    Column { names: &["time", "cputime"], head: "TIME", text: time },
    Column { names: &["tty", "tt", "tname"], head: "TTY", text: terminal },
    Column { names: &["args", "cmd", "command"], head: "COMMAND", text: command },
    Column { names: &["comm", "ucmd"], head: "NAME", text: name },
];
/// What is shown without `-o`.
const USUAL: &str = "uid,pid,ppid,stat,stime,tty,time,args";

fn time(process: &ProcessRecord) -> String {
    let seconds = process.cpu_nanoseconds / 1_000_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Hour and minute, in UTC.
fn started(process: &ProcessRecord) -> String {
    daemon::time::rfc3339(process.started).chars().skip(11).take(5).collect()
}

fn terminal(process: &ProcessRecord) -> String {
    if process.terminal.is_empty() { "?".to_owned() } else { process.terminal.clone() }
}

fn command(process: &ProcessRecord) -> String {
    String::from_utf8_lossy(&process.command).into_owned()
}

fn name(process: &ProcessRecord) -> String {
    let command = command(process);
    let program = command.split(' ').next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The columns that options of ps(1) ask for.
fn columns(options: &[String]) -> Result<Vec<&'static Column>> {
    let mut wanted = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let Some(letters) = option.strip_prefix('-') else { return Err(unknown(option)) };
        let (flags, list) = match letters.split_once('o') {
            Some((flags, "")) => (flags, options.next().map(String::as_str)),
            Some((flags, list)) => (flags, Some(list)),
            None => (letters, Some("")),
        };
        let list = list.ok_or_else(|| CliError::Usage("-o needs columns".to_owned()))?;
        if flags.is_empty() && list.is_empty() || !flags.chars().all(|flag| "Aefw".contains(flag)) {
            return Err(unknown(option));
        }
        wanted.extend(list.split(',').filter(|name| !name.is_empty()));
    }
    if wanted.is_empty() {
        wanted.extend(USUAL.split(','));
    }
    let find = |name: &str| COLUMNS.iter().find(|column| column.names.contains(&name));
    wanted.into_iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

fn unknown(word: &str) -> CliError {
    let known: Vec<&str> = COLUMNS.iter().filter_map(|c| c.names.first().copied()).collect();
    CliError::Usage(format!(
        "{word:?} is no option of top: there are -A, -e, -f, -w, and -o with columns ({})",
        known.join(",")
    ))
}

impl Top {
    pub(crate) fn run(self) -> Result<u8> {
        let columns = columns(&self.options)?;
        let Reply::Processes(table) = ask(Request::Top(self.container))? else { return Ok(1) };
        let row = |process| columns.iter().map(|column| (column.text)(process)).collect();
        let rows: Vec<Vec<String>> = table.processes.iter().map(row).collect();
        let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
        output::table(&heads, &rows);
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(options: &[&str]) -> Option<Vec<&'static str>> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        columns(&options).ok().map(|columns| columns.iter().map(|column| column.head).collect())
    }

    #[test]
    fn options_of_ps_choose_the_columns() {
        let usual = heads(&[]);
        assert_eq!(usual.as_ref().map(Vec::len), Some(8));
        assert_eq!(heads(&["-ef"]), usual);
        assert_eq!(heads(&["-o", "pid,comm"]), Some(vec!["PID", "NAME"]));
        assert_eq!(heads(&["-eo", "pid", "-ostat"]), Some(vec!["PID", "STAT"]));
        for refused in [["aux"].as_slice(), &["-"], &["-o"], &["-x"], &["-o", "pid,rss"]] {
            assert_eq!(heads(refused), None, "{refused:?}");
        }
    }
}
