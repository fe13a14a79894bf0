//! BusyBox's own test suite (Debian's source package), run by the distribution's unmodified executable in a container of Linux and in a compartment. A test
//! counts when it has a result on Linux, and passes when it has the same one here: also a failure that both share.

use super::{Tally, container};
use crate::{debian, demo::Mett, oci};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Seconds the whole suite may take in a compartment.
const LIMIT: u64 = 900;

/// What both systems run. The tests write beside themselves, and the image is read-only on Linux. The tests of bc compute for a minute on a real processor, which
/// says nothing about a system and is ten in an emulated one.
const SCRIPT: &str = "export PATH=/bin; cp -r /suite /tmp/suite; cd /tmp/suite/testsuite; \
     exec sh ./runtest $(busybox --list | grep -v '^bc$')";

/// Runs the suite on both systems.
pub(super) fn run(root: &Path, mett: &Mett, tally: &mut Tally) -> Result<()> {
    let folder = root.join("target/debian");
    let files = folder.join("busybox");
    make(&folder, &files)?;
    let name = "test-busybox:latest";
    mett.output(&["image", "import", &format!("rootfs:{}", files.display()), name])?;
    let command = ["/bin/busybox", "sh", "/run.sh"];
    let theirs = results(&container::text(&container::linux(&files, &command, LIMIT)?));
    ensure!(theirs.len() > 100, "only {} tests ran on Linux", theirs.len());
    let place =
        container::Compartment { image: name, name: "busybox-suite", memory: "1g", seconds: LIMIT };
    let output = container::compartment(mett, &place, &command)?;
    let ours = results(&container::text(&output));
    fs::write(folder.join("busybox.output"), container::text(&output))?;
    for (test, expected) in &theirs {
        tally.case(&format!("busybox {test}"), compare(expected, ours.get(test)));
    }
    Ok(())
}

fn compare(expected: &str, found: Option<&String>) -> Result<()> {
    let found = found.context("has no result; the output is in target/debian/busybox.output")?;
    ensure!(expected == found, "{expected} on Linux, {found} in a compartment");
    Ok(())
}

/// Lays out the image: the executable, its applets, and the suite with the configuration the executable was built with.
fn make(folder: &Path, files: &Path) -> Result<()> {
    let (published, debian) = debian::source(folder, "busybox")?;
    // What an earlier version left would count as tests.
    let _ = fs::remove_dir_all(files);
    for name in ["bin", "dev", "proc", "sys", "tmp", "run", "root", "etc", "suite"] {
        fs::create_dir_all(files.join(name))?;
    }
    let suite = files.join("suite");
    unpack(&published, &suite, &["--strip-components=1", "--wildcards", "*/testsuite"])?;
    unpack(&debian, &suite, &["debian/config/pkg/static"])?;
    fs::rename(suite.join("debian/config/pkg/static"), suite.join(".config"))?;
    fs::remove_dir_all(suite.join("debian"))?;
    let program = oci::program("busybox")?;
    fs::copy(&program, files.join("bin/busybox"))?;
    fs::copy(&program, suite.join("busybox"))?;
    let listed = Command::new(&program).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox")
    {
        std::os::unix::fs::symlink("busybox", files.join("bin").join(applet))?;
    }
    fs::write(files.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(files.join("etc/group"), "root:x:0:\n")?;
    fs::write(files.join("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 box\n")?;
    fs::write(files.join("run.sh"), SCRIPT)?;
    Ok(())
}

/// Unpacks some members of a compressed tar. BusyBox itself reads every compression; tar(1) chooses members.
fn unpack(archive: &Path, folder: &Path, words: &[&str]) -> Result<()> {
    let program =
        if archive.extension().is_some_and(|kind| kind == "bz2") { "bzcat" } else { "xzcat" };
    let mut plain = Command::new(oci::program("busybox")?)
        .args([program, "--"])
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()?;
    let stream = plain.stdout.take().context("busybox has no output")?;
    let status = Command::new("tar")
        .args(["--extract", "--no-same-owner", "--directory"])
        .arg(folder)
        .args(words)
        .stdin(stream)
        .status()
        .context("tar cannot be started")?;
    ensure!(
        status.success() && plain.wait()?.success(),
        "{} cannot be unpacked",
        archive.display()
    );
    Ok(())
}

/// Each test and its result. Names repeat, so the second of a name is `NAME (2)`.
fn results(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((result, name)) = line.split_once(": ") else { continue };
        if !["PASS", "FAIL", "SKIPPED", "UNTESTED"].contains(&result) {
            continue;
        }
        let mut key = name.to_owned();
        let mut count = 1;
        while found.contains_key(&key) {
            count += 1;
            key = format!("{name} ({count})");
        }
        found.insert(key, result.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{compare, results};

    #[test]
    fn a_name_that_repeats_is_two_tests() {
        let found = results("PASS: a\nnoise\nFAIL: a\nSKIPPED: b\n");
        assert_eq!(found.len(), 3);
        assert_eq!(found["a"], "PASS");
        assert_eq!(found["a (2)"], "FAIL");
    }

    #[test]
    fn another_result_and_none_are_failures() {
        assert!(compare("FAIL", Some(&"FAIL".into())).is_ok());
        assert!(compare("PASS", Some(&"FAIL".into())).is_err());
        assert!(compare("PASS", None).is_err());
    }
}
