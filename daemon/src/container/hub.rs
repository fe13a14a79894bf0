//! The daemon's end of one compartment: distributes its output, collects its input, and learns of its end.
//!
//! ```text
//! clients --Command--> hub --ToCompartment--> channel --> personality
//! clients <--Event---- hub <-FromCompartment- channel <--
//! ```
//! Owns: windows, the log, who is attached to what. Must not know: records, names. The personality is untrusted: output outside its window or
//! for processes that nobody started is a breach, and the compartment is destroyed for it. A client that does not read delays only the
//! stream it is attached to: a window is given back when everybody has dropped the [`Chunk`].

use super::{
    log::{Entry, LogWriter},
    window::Window,
};
use crate::machine::connection::{ConnectionError, Receiver, Sender};
use contract::{
    compartment::{
        Answer, ExitStatus, FromCompartment, INITIAL_WINDOW, MAX_BYTES, ProcessSpec, Question,
        StartFailure, ToCompartment, WindowSize,
    },
    compartments::Budget,
    wire::{self, Decoder},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Number of a compartment's first process.
pub const FIRST_PROCESS: u32 = 0;
/// Bytes of archive a question may have waiting for whoever asked.
const ARCHIVE_QUEUE: usize = 16;

/// What is asked of a hub.
#[derive(Debug)]
pub enum Command {
    /// Sends a process's events to a client.
    Attach {
        /// Which.
        process: u32,
        /// Where.
        events: mpsc::UnboundedSender<Event>,
    },
    /// Starts a further process; answers with its number.
    Exec {
        /// What.
        spec: ProcessSpec,
        /// Where its events go.
        events: Option<mpsc::UnboundedSender<Event>>,
        /// Its number.
        number: oneshot::Sender<u32>,
    },
    /// Input of a client.
    Input {
        /// For which process.
        process: u32,
        /// The bytes.
        bytes: Vec<u8>,
        /// Where the window is given back.
        from: mpsc::UnboundedSender<Event>,
    },
    /// End of input.
    EndInput(u32),
    /// The terminal's size.
    Resize(u32, WindowSize),
    /// A signal.
    Signal(u32, u8),
    /// New limits.
    Budget(Budget),
    /// A question; `parts` takes the archive that comes before the answer.
    Ask {
        /// What.
        what: Question,
        /// Parts of an archive.
        parts: Option<mpsc::Sender<Vec<u8>>>,
        /// The question's number, for `Archive`.
        number: Option<oneshot::Sender<u32>>,
        /// The answer.
        answer: oneshot::Sender<Answer>,
    },
    /// Part of an archive for a question.
    Archive {
        /// Which question.
        question: u32,
        /// The bytes; empty: the end.
        bytes: Vec<u8>,
    },
}

/// What a client learns of a process.
#[derive(Clone, Debug)]
pub enum Event {
    /// It has begun.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// It could not be started.
    NotStarted(StartFailure),
    /// Output.
    Output(Arc<Chunk>),
    /// More input may be sent.
    InputWindow(u32),
    /// It has ended.
    Exited(ExitStatus),
    /// The compartment is gone.
    Gone,
}

/// Some output. The compartment may send as much again when the last client has dropped it.
#[derive(Debug)]
pub struct Chunk {
    /// 1 or 2.
    pub stream: u8,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    process: u32,
    taken: mpsc::UnboundedSender<(u32, u8, u32)>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let length = u32::try_from(self.bytes.len()).unwrap_or_default();
        // A hub that has ended needs no windows.
        let _ = self.taken.send((self.process, self.stream, length));
    }
}

/// Why a hub ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubEnd {
    /// The compartment closed its channel.
    Closed,
    /// The compartment broke the rules.
    Breach(&'static str),
}

/// How the first process stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FirstProcess {
    /// Not begun.
    #[default]
    Waiting,
    /// Begun, with this pid.
    Running(u32),
    /// Could not be started.
    NotStarted(StartFailure),
    /// Ended.
    Exited(ExitStatus),
}

/// The handle of a hub.
#[derive(Clone, Debug)]
pub struct Hub {
    commands: mpsc::UnboundedSender<Command>,
    /// How the first process stands.
    pub first: watch::Receiver<FirstProcess>,
    /// Counts log entries, so that followers know when to look.
    pub logged: watch::Receiver<u64>,
}

impl Hub {
    /// Starts a hub on a channel; gives its handle and its end. The compartment may speak when `begin` fires. `events` is attached to the first process from the beginning.
    #[must_use]
    pub fn start(
        (sender, receiver): (Sender, Receiver),
        begin: oneshot::Receiver<()>,
        log: LogWriter,
        events: Option<mpsc::UnboundedSender<Event>>,
    ) -> (Self, oneshot::Receiver<HubEnd>) {
        let (commands, command_queue) = mpsc::unbounded_channel();
        let (outgoing, outgoing_queue) = mpsc::unbounded_channel();
        let (taken, taken_queue) = mpsc::unbounded_channel();
        let (first, first_watch) = watch::channel(FirstProcess::default());
        let (logged, logged_watch) = watch::channel(0);
        let (ended, end) = oneshot::channel();
        let mut processes = HashMap::new();
        processes.insert(FIRST_PROCESS, Process::new(events));
        let state = State {
            processes,
            questions: HashMap::new(),
            next_process: FIRST_PROCESS + 1,
            next_question: 1,
            outgoing,
            taken,
            log,
            first,
            logged,
        };
        tokio::spawn(send(sender, outgoing_queue));
        tokio::spawn(async move {
            if begin.await.is_ok() {
                receiver.begin();
            }
            let reason = serve(state, receiver, command_queue, taken_queue).await;
            // Whoever started the hub may have lost interest.
            let _ = ended.send(reason);
        });
        (Self { commands, first: first_watch, logged: logged_watch }, end)
    }

    /// Asks the hub for something; false when it has ended.
    #[must_use]
    pub fn command(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Asks a question that has no archive.
    pub async fn ask(&self, what: Question) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        if !self.command(Command::Ask { what, parts: None, number: None, answer }) {
            return None;
        }
        answered.await.ok()
    }
}

#[derive(Debug)]
struct Process {
    events: Vec<mpsc::UnboundedSender<Event>>,
    /// Bytes of input the compartment can still take.
    input_window: u32,
    input: VecDeque<(Vec<u8>, mpsc::UnboundedSender<Event>)>,
    end_input: bool,
    /// Bytes the compartment may still send on streams 1 and 2.
    output_windows: [Window; 2],
}

impl Process {
    fn new(events: Option<mpsc::UnboundedSender<Event>>) -> Self {
        Self {
            events: events.into_iter().collect(),
            input_window: INITIAL_WINDOW,
            input: VecDeque::new(),
            end_input: false,
            output_windows: Default::default(),
        }
    }

    fn tell(&mut self, event: &Event) {
        self.events.retain(|events| events.send(event.clone()).is_ok());
    }
}

#[derive(Debug)]
struct PendingQuestion {
    parts: Option<mpsc::Sender<Vec<u8>>>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct State {
    processes: HashMap<u32, Process>,
    questions: HashMap<u32, PendingQuestion>,
    next_process: u32,
    next_question: u32,
    outgoing: mpsc::UnboundedSender<ToCompartment>,
    taken: mpsc::UnboundedSender<(u32, u8, u32)>,
    log: LogWriter,
    first: watch::Sender<FirstProcess>,
    logged: watch::Sender<u64>,
}

/// Sends messages as fast as the compartment takes them.
async fn send(
    sender: Sender,
    mut outgoing: mpsc::UnboundedReceiver<ToCompartment>,
) -> Result<(), ConnectionError> {
    while let Some(message) = outgoing.recv().await {
        let mut bytes = Vec::new();
        if let Err(error) = wire::encode(&message, &mut bytes) {
            tracing::error!(?error, "a message to a compartment is too long");
            continue;
        }
        sender.send(&bytes).await?;
    }
    Ok(())
}

async fn serve(
    mut state: State,
    mut receiver: Receiver,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut taken: mpsc::UnboundedReceiver<(u32, u8, u32)>,
) -> HubEnd {
    let mut decoder = Decoder::new();
    let end = 'serve: loop {
        tokio::select! {
            Some((process, stream, bytes)) = taken.recv() => {
                state.give_window(process, stream, bytes);
            }
            command = commands.recv() => match command {
                Some(command) => state.command(command),
                // Nobody has a handle any more; the compartment is being forgotten.
                None => break HubEnd::Closed,
            },
            bytes = receiver.receive() => {
                let Some(bytes) = bytes else { break HubEnd::Closed };
                decoder.feed(&bytes);
                loop {
                    match decoder.next::<FromCompartment>() {
                        Ok(None) => break,
                        Ok(Some(message)) => {
                            if let Err(breach) = state.receive(message).await {
                                break 'serve HubEnd::Breach(breach);
                            }
                        }
                        Err(_) => break 'serve HubEnd::Breach("a malformed message"),
                    }
                }
            }
        }
    };
    for process in state.processes.values_mut() {
        process.tell(&Event::Gone);
    }
    end
}

impl State {
    fn send(&self, message: ToCompartment) {
        // The sending task ends only with the channel, which ends the hub.
        let _ = self.outgoing.send(message);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Attach { process, events } => match self.processes.get_mut(&process) {
                Some(process) => process.events.push(events),
                None => {
                    let _ = events.send(Event::Gone);
                }
            },
            Command::Exec { spec, events, number } => {
                let process = self.next_process;
                self.next_process = self.next_process.wrapping_add(1).max(1);
                self.processes.insert(process, Process::new(events));
                self.send(ToCompartment::Exec { process, spec });
                let _ = number.send(process);
            }
            Command::Input { process, bytes, from } => {
                if let Some(entry) = self.processes.get_mut(&process) {
                    entry.input.push_back((bytes, from));
                }
                self.send_input(process);
            }
            Command::EndInput(process) => {
                if let Some(entry) = self.processes.get_mut(&process) {
                    entry.end_input = true;
                }
                self.send_input(process);
            }
            Command::Resize(process, size) => self.send(ToCompartment::Resize { process, size }),
            Command::Signal(process, signal) => {
                self.send(ToCompartment::Signal { process, signal });
            }
            Command::Budget(budget) => self.send(ToCompartment::Budget(budget)),
            Command::Ask { what, parts, number, answer } => {
                let question = self.next_question;
                self.next_question = self.next_question.wrapping_add(1);
                self.questions.insert(question, PendingQuestion { parts, answer });
                self.send(ToCompartment::Ask { question, what });
                if let Some(number) = number {
                    let _ = number.send(question);
                }
            }
            Command::Archive { question, bytes } => {
                self.send(ToCompartment::ArchiveData { question, bytes });
            }
        }
    }

    /// Sends as much input as the process's window allows, and gives the clients their windows back.
    fn send_input(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let mut messages = Vec::new();
        while let Some((bytes, from)) = process.input.front_mut() {
            let limit = MAX_BYTES.min(process.input_window as usize).min(bytes.len());
            if limit == 0 && !bytes.is_empty() {
                break;
            }
            let rest = bytes.split_off(limit);
            let part = std::mem::replace(bytes, rest);
            let length = u32::try_from(part.len()).unwrap_or_default();
            process.input_window -= length;
            let _ = from.send(Event::InputWindow(length));
            if !part.is_empty() {
                messages.push(ToCompartment::Input { process: number, bytes: part });
            }
            if bytes.is_empty() {
                process.input.pop_front();
            }
        }
        if process.end_input && process.input.is_empty() {
            process.end_input = false;
            messages.push(ToCompartment::EndInput { process: number });
        }
        for message in messages {
            self.send(message);
        }
    }

    fn give_window(&mut self, process: u32, stream: u8, bytes: u32) {
        let Some(entry) = self.processes.get_mut(&process) else { return };
        let window = window(&mut entry.output_windows, stream);
        if let Some(bytes) = window.and_then(|window| window.give_back(bytes)) {
            self.send(ToCompartment::Window { process, stream, bytes });
        }
    }

    async fn receive(&mut self, message: FromCompartment) -> Result<(), &'static str> {
        match message {
            FromCompartment::Started { process, pid } => {
                self.tell(process, &Event::Started { pid })?;
                if process == FIRST_PROCESS {
                    self.first.send_replace(FirstProcess::Running(pid));
                }
            }
            FromCompartment::NotStarted { process, failure } => {
                self.tell(process, &Event::NotStarted(failure.clone()))?;
                self.forget(process);
                if process == FIRST_PROCESS {
                    self.first.send_replace(FirstProcess::NotStarted(failure));
                }
            }
            FromCompartment::Output { process, stream, bytes } => {
                self.output(process, stream, bytes)?;
            }
            FromCompartment::EndOutput { .. } => {}
            FromCompartment::Window { process, bytes } => {
                if let Some(entry) = self.processes.get_mut(&process) {
                    let window = entry.input_window.checked_add(bytes);
                    entry.input_window = window.ok_or("an input window out of range")?;
                }
                self.send_input(process);
            }
            FromCompartment::Exited { process, status } => {
                self.tell(process, &Event::Exited(status))?;
                self.forget(process);
                if process == FIRST_PROCESS {
                    self.first.send_replace(FirstProcess::Exited(status));
                }
            }
            FromCompartment::Answer { question, answer } => {
                let pending = self.questions.remove(&question);
                let pending = pending.ok_or("an answer to no question")?;
                let _ = pending.answer.send(answer);
            }
            FromCompartment::ArchiveData { question, bytes } => {
                self.archive(question, bytes).await?;
            }
            FromCompartment::Log(text) => {
                let text: String = text.chars().take(1000).collect();
                tracing::debug!(text, "a personality says");
            }
        }
        Ok(())
    }

    /// An archive is delivered in order and without loss; whoever reads it slowly slows down the compartment.
    async fn archive(&mut self, question: u32, bytes: Vec<u8>) -> Result<(), &'static str> {
        let pending = self.questions.get(&question).ok_or("an archive for no question")?;
        if let Some(parts) = &pending.parts {
            // Whoever asked may have gone; the rest is dropped.
            let _ = parts.send(bytes).await;
        }
        Ok(())
    }

    fn tell(&mut self, process: u32, event: &Event) -> Result<(), &'static str> {
        let entry = self.processes.get_mut(&process).ok_or("news of an unknown process")?;
        entry.tell(event);
        Ok(())
    }

    /// A process that ended is not spoken of again.
    fn forget(&mut self, process: u32) {
        self.processes.remove(&process);
    }

    fn output(&mut self, process: u32, stream: u8, bytes: Vec<u8>) -> Result<(), &'static str> {
        let entry = self.processes.get_mut(&process).ok_or("output of an unknown process")?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let window = window(&mut entry.output_windows, stream).ok_or("an unknown stream")?;
        window.use_up(length).ok_or("more output than its window")?;
        if bytes.len() > MAX_BYTES {
            return Err("an output message that is too long");
        }
        let time = now();
        if process == FIRST_PROCESS {
            let logged = Entry { time, stream, bytes: bytes.clone() };
            self.log.append(&logged);
            self.logged.send_modify(|count| *count += 1);
        }
        let taken = self.taken.clone();
        let chunk = Arc::new(Chunk { stream, time, bytes, process, taken });
        entry.tell(&Event::Output(chunk));
        Ok(())
    }
}

fn window(windows: &mut [Window; 2], stream: u8) -> Option<&mut Window> {
    windows.get_mut(usize::from(stream).checked_sub(1)?)
}

/// A queue for the parts of an archive.
#[must_use]
pub fn archive_queue() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(ARCHIVE_QUEUE)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
