//! A "compartment" of the fake machine: processes of the host with pipes.

use super::Wire;
use contract::compartment::{
    Answer, ExitStatus, FromCompartment, INITIAL_WINDOW, MAX_BYTES, PathStat, ProcessRecord,
    ProcessSpec, Question, Spec, StartFailure, ToCompartment,
};
use std::{
    collections::HashMap,
    io,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    sync::{Semaphore, mpsc},
};

/// A compartment.
#[derive(Debug)]
pub(super) struct Compartment {
    pub(super) channel: u32,
    id: u64,
    wire: Arc<Wire>,
    processes: HashMap<u32, Process>,
    archives: HashMap<u32, (PathBuf, Vec<u8>)>,
    died: mpsc::UnboundedSender<u64>,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    input: Option<mpsc::UnboundedSender<Vec<u8>>>,
    windows: [Arc<Semaphore>; 2],
}

fn path(bytes: Vec<u8>) -> PathBuf {
    std::ffi::OsString::from_vec(bytes).into()
}

impl Compartment {
    pub(super) fn start(
        id: u64,
        channel: u32,
        wire: Arc<Wire>,
        spec: Spec,
        died: mpsc::UnboundedSender<u64>,
    ) -> Self {
        let (processes, archives) = (HashMap::new(), HashMap::new());
        let mut compartment = Self { channel, id, wire, processes, archives, died };
        compartment.spawn(0, spec.process);
        compartment
    }

    fn send(&self, message: &FromCompartment) {
        self.wire.send(self.channel, message);
    }

    fn spawn(&mut self, process: u32, spec: ProcessSpec) {
        let terminal = spec.terminal.is_some();
        match start(spec) {
            Ok(mut child) => {
                let pid = child.id().unwrap_or_default();
                self.send(&FromCompartment::Started { process, pid });
                let windows = [(); 2].map(|()| Arc::new(Semaphore::new(INITIAL_WINDOW as usize)));
                let input = child.stdin.take().map(|stdin| self.feed(process, stdin));
                self.watch(process, child, windows.clone(), terminal);
                self.processes.insert(process, Process { pid, input, windows });
            }
            Err(failure) => {
                self.send(&FromCompartment::NotStarted { process, failure });
                if process == 0 {
                    let _ = self.died.send(self.id);
                }
            }
        }
    }

    /// Passes input on and gives the window back.
    fn feed(&self, process: u32, mut stdin: ChildStdin) -> mpsc::UnboundedSender<Vec<u8>> {
        let (input, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let (wire, channel) = (Arc::clone(&self.wire), self.channel);
        tokio::spawn(async move {
            while let Some(bytes) = queue.recv().await {
                // A process that closed its input still has its window.
                let _ = stdin.write_all(&bytes).await;
                let bytes = bytes.len() as u32;
                wire.send(channel, &FromCompartment::Window { process, bytes });
            }
        });
        input
    }

    /// Passes output on, within its window, and then the end.
    fn watch(&self, process: u32, mut child: Child, windows: [Arc<Semaphore>; 2], terminal: bool) {
        let (wire, channel) = (Arc::clone(&self.wire), self.channel);
        let (died, id) = (self.died.clone(), self.id);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        tokio::spawn(async move {
            let [one, two] = windows;
            let error_stream = if terminal { 1 } else { 2 };
            let error_window = if terminal { Arc::clone(&one) } else { two };
            tokio::join!(
                pass(&wire, channel, process, 1, stdout, one),
                pass(&wire, channel, process, error_stream, stderr, error_window),
            );
            let status = child.wait().await.map_or(ExitStatus::Code(255), |status| {
                match (status.code(), status.signal()) {
                    (Some(code), _) => ExitStatus::Code(code as u8),
                    (None, signal) => {
                        let signal = signal.unwrap_or_default() as u8;
                        ExitStatus::Signal { signal, out_of_memory: false }
                    }
                }
            });
            wire.send(channel, &FromCompartment::Exited { process, status });
            if process == 0 {
                let _ = died.send(id);
            }
        });
    }

    pub(super) fn receive(&mut self, message: ToCompartment) {
        match message {
            ToCompartment::Input { process, bytes } => {
                assert!(bytes.len() <= MAX_BYTES);
                if let Some(input) = self.processes.get(&process).and_then(|p| p.input.as_ref()) {
                    let _ = input.send(bytes);
                }
            }
            ToCompartment::EndInput { process } => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.input = None;
                }
            }
            ToCompartment::Window { process, stream, bytes } => {
                let window = self.processes.get(&process);
                let window = window.and_then(|p| p.windows.get(usize::from(stream) - 1));
                if let Some(window) = window {
                    window.add_permits(bytes as usize);
                }
            }
            ToCompartment::Signal { process, signal } => {
                if let Some(process) = self.processes.get(&process) {
                    let _ = std::process::Command::new("kill")
                        .args([format!("-{signal}"), process.pid.to_string()])
                        .status();
                }
            }
            ToCompartment::Exec { process, spec } => self.spawn(process, spec),
            ToCompartment::Ask { question, what } => self.ask(question, what),
            ToCompartment::ArchiveData { question, bytes } => self.archive(question, bytes),
            ToCompartment::Start | ToCompartment::Resize { .. } | ToCompartment::Budget(_) => {}
        }
    }

    fn answer(&self, question: u32, answer: Answer) {
        self.send(&FromCompartment::Answer { question, answer });
    }

    fn ask(&mut self, question: u32, what: Question) {
        let answer = match what {
            Question::Processes => Answer::Processes(
                self.processes
                    .values()
                    .map(|process| ProcessRecord {
                        pid: process.pid,
                        state: b'S',
                        command: b"fake".to_vec(),
                        ..ProcessRecord::default()
                    })
                    .collect(),
            ),
            Question::Gaps => Answer::Gaps(Vec::new()),
            Question::PathStat(bytes) => path_stat(&path(bytes)),
            Question::GetArchive(bytes) => {
                let source = path(bytes);
                let parent = source.parent().unwrap_or(Path::new("/")).to_owned();
                let name = source.file_name().unwrap_or_default().to_owned();
                let output = std::process::Command::new("tar")
                    .arg("-C")
                    .arg(parent)
                    .arg("-cf")
                    .arg("-")
                    .arg(name)
                    .output();
                for part in output.map(|o| o.stdout).unwrap_or_default().chunks(MAX_BYTES) {
                    let bytes = part.to_vec();
                    self.send(&FromCompartment::ArchiveData { question, bytes });
                }
                self.send(&FromCompartment::ArchiveData { question, bytes: Vec::new() });
                Answer::Done
            }
            Question::PutArchive(bytes) => {
                self.archives.insert(question, (path(bytes), Vec::new()));
                return;
            }
        };
        self.answer(question, answer);
    }

    fn archive(&mut self, question: u32, bytes: Vec<u8>) {
        let end = bytes.is_empty();
        let Some((_, archive)) = self.archives.get_mut(&question) else { return };
        archive.extend(bytes);
        if !end {
            return;
        }
        let Some((directory, archive)) = self.archives.remove(&question) else { return };
        let file = directory.join(".archive");
        let unpacked = std::fs::write(&file, archive).and_then(|()| {
            let mut command = std::process::Command::new("tar");
            let status = command.arg("-C").arg(&directory).arg("-xf").arg(&file).status()?;
            std::fs::remove_file(&file)?;
            if status.success() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
        let failed = |error: io::Error| Answer::Failed { errno: 5, message: error.to_string() };
        self.answer(question, unpacked.map_or_else(failed, |()| Answer::Done));
    }

    /// Kills every process.
    pub(super) fn kill(&self) {
        for process in self.processes.values() {
            let pid = process.pid.to_string();
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid])
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn start(spec: ProcessSpec) -> Result<Child, StartFailure> {
    if spec.user == "nosuchuser" {
        let message = "unable to find user nosuchuser: no matching entries in passwd file";
        return Err(StartFailure::UnknownUser(message.to_owned()));
    }
    let mut arguments = spec.arguments.into_iter().map(|argument| path(argument).into_os_string());
    let program = arguments.next().unwrap_or_default();
    let variables = spec.environment.into_iter().filter_map(|variable| {
        let variable = String::from_utf8_lossy(&variable).into_owned();
        variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let directory = path(spec.working_directory);
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().envs(variables).kill_on_drop(true);
    command.stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if directory.is_dir() {
        command.current_dir(directory);
    }
    let shown = program.to_string_lossy().into_owned();
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            StartFailure::NotFound(format!("exec: \"{shown}\": no such file or directory"))
        }
        _ => StartFailure::NotExecutable(format!("exec: \"{shown}\": {error}")),
    })
}

async fn pass(
    wire: &Wire,
    channel: u32,
    process: u32,
    stream: u8,
    source: Option<impl AsyncRead + Unpin>,
    window: Arc<Semaphore>,
) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; MAX_BYTES];
    while let Ok(first) = window.acquire().await {
        first.forget();
        let more = window.available_permits().min(MAX_BYTES - 1);
        let more = window.try_acquire_many(more as u32).map_or(0, |permits| {
            let count = permits.num_permits();
            permits.forget();
            count
        });
        let length = source.read(&mut buffer[..=more]).await.unwrap_or(0);
        window.add_permits(more + 1 - length);
        if length == 0 {
            break;
        }
        let bytes = buffer[..length].to_vec();
        wire.send(channel, &FromCompartment::Output { process, stream, bytes });
    }
    wire.send(channel, &FromCompartment::EndOutput { process, stream });
}

fn path_stat(path: &Path) -> Answer {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Answer::PathStat(PathStat {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned().into_bytes(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: metadata.mtime(),
            link_target: Vec::new(),
        }),
        Err(_) => Answer::Failed {
            errno: 2,
            message: format!("{}: no such file or directory", path.display()),
        },
    }
}
