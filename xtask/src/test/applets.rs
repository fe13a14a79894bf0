//! BusyBox: every case of `tests/applets/cases` in a container of Linux and in a compartment, and the transcripts compared.

use super::{
    Tally,
    programs::{isolated, unprivileged},
};
use crate::{demo::Mett, oci};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs, path::Path, process::Stdio};

/// Runs the cases on both systems.
pub(super) fn run(root: &Path, mett: &Mett, tally: &mut Tally) -> Result<()> {
    let folder = root.join("target/tests/applets");
    // Links of an earlier run would hide changes of the set of applets.
    let _ = fs::remove_dir_all(&folder);
    for name in ["bin", "tmp", "proc", "dev", "etc"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(oci::program("busybox")?, folder.join("bin/busybox"))?;
    fs::copy(root.join("tests/applets/run.sh"), folder.join("run.sh"))?;
    fs::copy(root.join("tests/applets/cases"), folder.join("cases"))?;
    let image = format!("rootfs:{}", folder.display());
    let ours = mett
        .command(&[
            "run",
            "--rm",
            "--hostname",
            "box",
            &image,
            "/bin/busybox",
            "sh",
            "/run.sh",
            "/cases",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("mett cannot be started")?;
    // The folder is a mount of its own, as a container's root is.
    let script = format!(
        "set -e; hostname box; mount --bind {0} {0}; cd {0}; mount -t tmpfs tmpfs dev; \
         for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done; \
         mount -t proc proc proc; mount -t tmpfs tmpfs tmp; exec {1} chroot . /bin/busybox sh /run.sh /cases",
        folder.display(),
        unprivileged()
    );
    let theirs =
        isolated(&script).stderr(Stdio::inherit()).output().context("unshare cannot be started")?;
    let theirs = transcript(&String::from_utf8_lossy(&theirs.stdout));
    let ours = transcript(&String::from_utf8_lossy(&ours.stdout));
    ensure!(!theirs.is_empty(), "no case ran on Linux");
    for (name, expected) in &theirs {
        tally.case(&format!("applet {name}"), compare(expected, ours.get(name)));
    }
    Ok(())
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
    use super::{compare, transcript};

    #[test]
    fn a_transcript_is_cut_into_cases() {
        let cases = transcript("=== 1 a\nx\n--- 0\n=== 2 b\n--- 1\n");
        assert_eq!(cases.len(), 2);
        assert_eq!(cases["1 a"], "x\n--- 0\n");
    }

    #[test]
    fn another_output_and_a_missing_case_are_failures() {
        assert!(compare("a", Some(&"a".into())).is_ok());
        assert!(compare("a", Some(&"b".into())).is_err());
        assert!(compare("a", None).is_err());
    }
}
