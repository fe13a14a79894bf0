//! `cargo xtask run`: sets everything up, boots a machine and runs a shell pipeline in an unmodified BusyBox image.

use crate::{build, oci, setup};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// What the demonstration's shell runs.
const PIPELINE: &str = "uname -srm; ls /bin | wc -l | sed 's/$/ applets in one unmodified executable/'; \
     seq 1 1000 | awk '{ sum += $1 } END { print \"the sum of 1..1000 is\", sum }'; \
     dd if=/dev/urandom bs=64k count=4 2>/dev/null | sha256sum | cut -c1-16";

/// The command `mett` with a home and a daemon of its own, which end with it.
pub(crate) struct Mett {
    program: PathBuf,
    home: PathBuf,
    image: PathBuf,
    daemon: Child,
}

impl Mett {
    /// Builds `mett` and starts its daemon on a new home in a folder; the machine's image must have been built.
    pub(crate) fn build(root: &Path, folder: &Path) -> Result<Self> {
        let status = Command::new("cargo")
            .args(["build", "--quiet", "-p", "cli"])
            .current_dir(root)
            .status()?;
        ensure!(status.success(), "mett does not build");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let (program, image) = (target.join("debug/mett"), root.join("target/machine"));
        let home = folder.join(format!("home-{}", std::process::id()));
        fs::create_dir_all(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        let mut command = Command::new(&program);
        command.arg("daemon").env("METT_HOME", &home).env("METT_SYSTEM_IMAGE_DIR", &image);
        let log = fs::File::create(folder.join("daemon.log"))?;
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mett = Self { program, home, image, daemon };
        let end = Instant::now() + Duration::from_secs(10);
        while !mett.home.join("daemon.sock").exists() {
            ensure!(
                Instant::now() < end,
                "the daemon does not serve; see {}/daemon.log",
                folder.display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(mett)
    }

    /// A command of `mett`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("METT_HOME", &self.home)
            .env("METT_SYSTEM_IMAGE_DIR", &self.image);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command and gives its output; an error when it fails.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().context("mett cannot be started")?;
        if !status.success() {
            bail!("mett {}: {status}: {}", arguments.join(" "), String::from_utf8_lossy(&stderr));
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

impl Drop for Mett {
    fn drop(&mut self) {
        // Nothing runs any more: nothing to end.
        let _ =
            self.command(&["machine", "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Runs the demonstration.
pub(crate) fn run(root: &Path) -> Result<()> {
    setup::run(root, false)?;
    eprintln!("Building the kernel, the services and the personality ...");
    build::all(root)?;
    let folder = root.join("target/demo");
    let archive = oci::busybox(&folder)?;
    eprintln!("Building mett ...");
    let mett = Mett::build(root, &folder)?;
    let image = format!("oci-archive:{}", archive.display());
    eprintln!("\n$ mett run --name demo {image} sh -c '...'        (boots the machine first)");
    let begin = Instant::now();
    let _ =
        mett.command(&["rm", "-f", "demo"]).stderr(Stdio::null()).stdout(Stdio::null()).status();
    print!("{}", mett.output(&["run", "--name", "demo", &image, "sh", "-c", PIPELINE])?);
    let cold = begin.elapsed();
    let begin = Instant::now();
    mett.output(&["run", "--rm", &image, "true"])?;
    let warm = begin.elapsed();
    let begin = Instant::now();
    mett.output(&["run", "-d", "--name", "held", &image, "sleep", "60"])?;
    mett.output(&["exec", "held", "true"])?;
    let exec = begin.elapsed();
    eprintln!("\nHow long it took, from the command line and back, in an emulated computer:");
    eprintln!(
        "  {:>6} ms  the first container: import the image, boot a machine, run the pipeline",
        cold.as_millis()
    );
    eprintln!("  {:>6} ms  a second container in the same machine", warm.as_millis());
    eprintln!(
        "  {:>6} ms  a third one left running, and a further command in it",
        exec.as_millis()
    );
    eprintln!("\nWhat a compartment can touch ($ mett inspect --caps held):");
    print!("{}", mett.output(&["inspect", "--caps", "held"])?);
    mett.output(&["rm", "-f", "held", "demo"])?;
    Ok(())
}
