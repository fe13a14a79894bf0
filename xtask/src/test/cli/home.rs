//! A home of `mett` for tests: its commands, what they gave, and what is left when it goes.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Name of the image that every home of the suite has.
pub(super) const IMAGE: &str = "shell";
/// Longest time a single command may take on a busy computer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all homes have in common.
#[derive(Debug)]
pub(super) struct Bed {
    /// The command `mett`.
    pub(super) program: PathBuf,
    /// The machine's image.
    pub(super) system: PathBuf,
    /// The repository.
    pub(super) root: PathBuf,
    /// Where homes and images are made.
    pub(super) folder: PathBuf,
    /// An OCI archive of BusyBox.
    pub(super) archive: PathBuf,
}

/// A home. Its machine and its folder go with it.
#[derive(Debug)]
pub(super) struct Home<'a> {
    bed: &'a Bed,
    pub(super) path: PathBuf,
    /// Another emulator than the system's.
    emulator: Option<PathBuf>,
}

/// What a command gave.
#[derive(Debug)]
pub(super) struct Outcome {
    words: String,
    pub(super) status: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl<'a> Home<'a> {
    /// A new home without a machine; with the image if it is to be used at once.
    pub(super) fn new(bed: &'a Bed, name: &str) -> Result<Self> {
        let path = bed.folder.join(format!("home-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self { bed, path, emulator: None })
    }

    /// A new home that has imported the image.
    pub(super) fn with_image(bed: &'a Bed, name: &str) -> Result<Self> {
        Self::new(bed, name)?.import()
    }

    /// As `with_image`; its machine has a debugging port, `machine/gdb.sock`.
    pub(super) fn with_debugger(bed: &'a Bed, name: &str) -> Result<Self> {
        let mut home = Self::new(bed, name)?;
        home.emulator = Some(super::dumps::emulator(&bed.folder)?);
        home.import()
    }

    fn import(self) -> Result<Self> {
        let source = format!("oci-archive:{}", self.bed.archive.display());
        self.run(&["image", "import", &source, IMAGE]).succeeds()?;
        Ok(self)
    }

    /// A command of `mett`, on the machine's image.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(&[], arguments)
    }

    /// The command through other programs (`setsid`, `sh`), which come first.
    pub(super) fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut words = wrapper.iter().map(Path::new).chain([self.bed.program.as_path()]);
        let mut command = Command::new(words.next().unwrap_or(&self.bed.program));
        command.args(words.map(Path::as_os_str)).args(arguments);
        command.env("METT_HOME", &self.path).env("METT_SYSTEM_IMAGE_DIR", &self.bed.system);
        if let Some(emulator) = &self.emulator {
            command.env("METT_QEMU", emulator);
        }
        command.stdin(Stdio::null()).current_dir(&self.bed.folder);
        command
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        self.feed(arguments, b"")
    }

    /// Runs a shell command in a new container.
    pub(super) fn shell(&self, options: &[&str], script: &str) -> Outcome {
        let arguments = [&["run", "--rm"], options, &[IMAGE, "sh", "-c", script]].concat();
        self.run(&arguments)
    }

    /// Runs a command to its end with something on its standard input.
    pub(super) fn feed(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        finish(self.command(arguments), &arguments.join(" "), input).unwrap_or_else(|error| {
            Outcome {
                words: arguments.join(" "),
                status: -1,
                stdout: Vec::new(),
                stderr: format!("{error:#}"),
            }
        })
    }

    /// Starts a container that sleeps.
    pub(super) fn sleeper(&self, name: &str) -> Result<()> {
        self.run(&["run", "-d", "--name", name, IMAGE, "sleep", "1000"]).succeeds()
    }

    /// Process number of the emulator.
    pub(super) fn emulator(&self) -> Result<String> {
        let outcome = self.run(&["machine", "status", "--format", "json"]);
        outcome.succeeds()?;
        let status: serde_json::Value = serde_json::from_slice(&outcome.stdout)?;
        Ok(status.get("pid").context("no emulator")?.to_string())
    }

    /// What `machine status` counts: containers, objects, free bytes.
    pub(super) fn counts(&self) -> Result<(u64, u64, u64)> {
        let outcome = self.run(&["machine", "status", "--format", "json"]);
        outcome.succeeds()?;
        let status: serde_json::Value = serde_json::from_slice(&outcome.stdout)?;
        let number = |name: &str| status.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok((number("containers"), number("objects"), number("memoryFree")))
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        let quiet = |command: &mut Command| {
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        };
        quiet(&mut self.command(&["machine", "stop", "--force"]));
        // The daemon ends when it sees that its home is gone.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Runs a command to its end; one that does not end in time is killed.
fn finish(mut command: Command, words: &str, input: &[u8]) -> Result<Outcome> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().context("mett cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A command that does not read all of it has its reasons.
        thread::spawn(move || stdin.write_all(&input));
    }
    let pid = child.id().to_string();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watcher = thread::spawn(move || {
        let late = waiting.recv_timeout(PATIENCE).is_err();
        if late {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
        late
    });
    let output = child.wait_with_output();
    let _ = done.send(());
    let late = watcher.join().unwrap_or(false);
    ensure!(!late, "mett {words} does not end");
    Ok(Outcome::new(words, output?))
}

impl Outcome {
    pub(super) fn new(words: &str, output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let signal = output.status.signal().map_or(-1, |signal| -signal);
        Self {
            words: words.to_owned(),
            status: output.status.code().unwrap_or(signal),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It ended with status 0.
    pub(super) fn succeeds(&self) -> Result<()> {
        self.ends(0)
    }

    /// It ended with a status.
    pub(super) fn ends(&self, status: i32) -> Result<()> {
        let Self { words, status: actual, stderr, .. } = self;
        let stdout = self.text();
        ensure!(
            *actual == status,
            "mett {words}: status {actual} instead of {status}; {stdout:?} {stderr:?}"
        );
        Ok(())
    }

    /// It ended with a status, said exactly this, and something with this in it on standard error (nothing if empty).
    pub(super) fn is(&self, status: i32, stdout: &str, error: &str) -> Result<()> {
        self.ends(status)?;
        let text = self.text();
        ensure!(text == stdout, "mett {}: printed {text:?} instead of {stdout:?}", self.words);
        let stderr = &self.stderr;
        let fits = if error.is_empty() { stderr.is_empty() } else { stderr.contains(error) };
        ensure!(fits, "mett {}: standard error is {stderr:?}, not {error:?}", self.words);
        Ok(())
    }

    /// It succeeded and printed something with this in it.
    pub(super) fn has(&self, part: &str) -> Result<()> {
        self.succeeds()?;
        let text = self.text();
        ensure!(text.contains(part), "mett {}: {text:?} has no {part:?}", self.words);
        Ok(())
    }

    /// It failed with a status, said why on standard error, and printed nothing.
    pub(super) fn refuses(&self, status: i32, reason: &str) -> Result<()> {
        ensure!(!reason.is_empty(), "a refusal has a reason");
        self.is(status, "", reason)
    }
}

/// Waits until something is so.
pub(super) fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < end, "{what}: not in time");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
