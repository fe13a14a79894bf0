//! The suite `dist`: the executable that users get runs a container on a computer that has nothing but it and QEMU.

use super::Tally;
use crate::{dist, oci};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The emulator's program.
const EMULATOR: &str = "qemu-system-x86_64";

/// Builds the executable and tries it. Not among the quick suites: what ships is optimised as a whole, which takes minutes.
pub(super) fn run(root: &Path, tally: &mut Tally) -> Result<()> {
    dist::run(root)?;
    let place = Place::new(root)?;
    let archive = oci::busybox(&place.folder)?;
    let source = format!("oci-archive:{}", archive.display());
    tally.case("dist: the executable runs a container with nothing but QEMU", {
        let ran = place.mett(&["run", "--rm", &source, "sh", "-c", "echo $((6*7)); exit 9"]);
        ran.and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let is_right = output.status.code() == Some(9) && text == "42\n";
            ensure!(is_right, "{output:?}");
            Ok(())
        })
    });
    tally.case("dist: the executable ends its machine", {
        let stopped = place.mett(&["machine", "stop"]);
        stopped.and_then(|output| {
            ensure!(output.status.success(), "{output:?}");
            Ok(())
        })
    });
    Ok(())
}

/// A home, and a folder of programs that has the emulator only.
struct Place {
    folder: PathBuf,
    program: PathBuf,
}

impl Place {
    fn new(root: &Path) -> Result<Self> {
        let folder = root.join("target/tests/dist").join(std::process::id().to_string());
        fs::create_dir_all(folder.join("bin"))?;
        fs::create_dir_all(folder.join("home"))?;
        fs::set_permissions(folder.join("home"), fs::Permissions::from_mode(0o700))?;
        let path = std::env::var_os("PATH").context("PATH is not set")?;
        let emulator = std::env::split_paths(&path).map(|folder| folder.join(EMULATOR));
        let emulator = emulator.into_iter().find(|file| file.is_file());
        symlink(emulator.context("there is no QEMU")?, folder.join("bin").join(EMULATOR))?;
        // Away from the tree: a system image beside it must not help.
        let program = folder.join("bin/mett");
        fs::copy(root.join("dist/mett"), &program)?;
        Ok(Self { folder, program })
    }

    fn mett(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        command.env("PATH", self.folder.join("bin")).env("METT_HOME", self.folder.join("home"));
        command.output().context("mett cannot be started")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a machine there is nothing to stop.
        let _ = self.mett(&["machine", "stop", "--force"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
