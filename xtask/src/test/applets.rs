//! BusyBox: every case of `tests/applets/cases` and every script of `tests/applets/scripts` in a container of Linux and in a compartment, and the transcripts
//! compared.

use super::{
    Tally,
    programs::{isolated, unprivileged},
};
use crate::{demo::Mett, oci};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What ends the name of a script that runs on a terminal.
const ON_TERMINAL: &str = " (terminal)";

/// Runs the cases on both systems.
pub(super) fn run(root: &Path, mett: &Mett, tally: &mut Tally) -> Result<()> {
    let folder = root.join("target/tests/applets");
    // Links of an earlier run would hide changes of the set of applets.
    let _ = fs::remove_dir_all(&folder);
    for name in ["bin", "tmp", "proc", "dev", "etc", "scripts", "terminal"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(oci::program("busybox")?, folder.join("bin/busybox"))?;
    fs::copy(root.join("tests/applets/run.sh"), folder.join("run.sh"))?;
    fs::copy(root.join("tests/applets/cases"), folder.join("cases"))?;
    let text = fs::read_to_string(root.join("tests/applets/scripts"))?;
    for (name, script) in scripts(&text) {
        let (name, place) = match name.strip_suffix(ON_TERMINAL) {
            Some(name) => (name, "terminal"),
            None => (name, "scripts"),
        };
        fs::write(folder.join(place).join(name), script)?;
    }
    for (what, on_terminal) in [("/cases", false), ("/scripts", false), ("/terminal", true)] {
        let theirs = output(linux(&folder, what, on_terminal))?;
        ensure!(!theirs.is_empty(), "nothing of {what} ran on Linux");
        let ours = output(compartment(mett, &folder, what, on_terminal))?;
        for (name, expected) in &theirs {
            tally.case(&format!("applet {name}"), compare(expected, ours.get(name)));
        }
    }
    Ok(())
}

/// The scripts of a file, by name.
fn scripts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("\n### ").skip(1).filter_map(|part| part.split_once('\n'))
}

fn compartment(mett: &Mett, folder: &Path, what: &str, on_terminal: bool) -> Command {
    let image = format!("rootfs:{}", folder.display());
    let mut words = vec!["run", "--rm", "--hostname", "box"];
    if on_terminal {
        words.push("-it");
    }
    words.extend([image.as_str(), "/bin/busybox", "sh", "/run.sh", what]);
    let command = mett.command(&words);
    if !on_terminal {
        return command;
    }
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut wrapped = Command::new("script");
    wrapped.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::piped());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// The folder is a mount of its own, as a container's root is. Signals that whoever runs this ignores are not ignored there.
fn linux(folder: &Path, what: &str, on_terminal: bool) -> Command {
    let run = format!("{} chroot . /bin/busybox sh /run.sh {what}", unprivileged());
    let run = if on_terminal { format!("script -qec '{run}' /dev/null") } else { run };
    let mut command = isolated(&format!(
        "set -e; hostname box; mount --bind {0} {0}; cd {0}; mount -t tmpfs tmpfs dev; \
         for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done; \
         mount -t proc proc proc; mount -t tmpfs tmpfs tmp; exec env --default-signal {run}",
        folder.display()
    ));
    if on_terminal {
        command.stdin(Stdio::piped());
    }
    command
}

/// The transcript that a command prints.
fn output(mut command: Command) -> Result<BTreeMap<String, String>> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.with_context(|| format!("{command:?} cannot be started"))?;
    // The end of a terminal's input would be typed.
    let input = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(input);
    Ok(transcript(&String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")))
}

fn compare(expected: &str, ours: Option<&String>) -> Result<()> {
    let ours = ours.context("did not run")?;
    ensure!(expected == ours, "Linux:\n{expected}MettEagle:\n{ours}");
    Ok(())
}

/// The output and exit status of each case.
fn transcript(text: &str) -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    for part in text.split("=== ").skip(1) {
        let (name, output) = part.split_once('\n').unwrap_or((part, ""));
        cases.insert(name.to_owned(), output.to_owned());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::{compare, scripts, transcript};

    #[test]
    fn a_transcript_is_cut_into_cases() {
        let cases = transcript("=== 1 a\nx\n--- 0\n=== 2 b\n--- 1\n");
        assert_eq!(cases.len(), 2);
        assert_eq!(cases["1 a"], "x\n--- 0\n");
    }

    #[test]
    fn a_file_is_cut_into_scripts() {
        let all: Vec<_> = scripts("# about\n### a b\nx\ny\n### c (terminal)\nz\n").collect();
        assert_eq!(all, [("a b", "x\ny"), ("c (terminal)", "z\n")]);
    }

    #[test]
    fn another_output_and_a_missing_case_are_failures() {
        assert!(compare("a", Some(&"a".into())).is_ok());
        assert!(compare("a", Some(&"b".into())).is_err());
        assert!(compare("a", None).is_err());
    }
}
