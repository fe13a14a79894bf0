//! The daemon's side: messages of the port, the processes it has started, their streams; and the timers' thread.
//!
//! Nothing the daemon says can harm more than this compartment; still, everything is checked before it is used.

use crate::{
    file::{stream::Stream, terminal::Terminal},
    linux::{Errno, SIGCONT, SIGHUP, SIGWINCH, layouts::Winsize},
    system::System,
    task::{Life, Process, exit, signal},
};
use alloc::{
    collections::BTreeMap,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use contract::{
    compartment::{
        Answer, ExitStatus, FromCompartment, MAX_BYTES, ProcessRecord, ProcessSpec, Question,
        ResourceLimit, Spec, ToCompartment,
    },
    wire::{self, Decoder},
};
use core::{
    cell::RefCell,
    sync::atomic::{AtomicBool, Ordering},
};
use rt::port::Port;

pub mod archive;
mod start;
mod tar;
mod timers;
pub mod users;

pub use start::start;
pub use timers::{arm_timers, look_at, watch_cpu_limit};

/// Encoded messages that may wait for room in the port.
const OUT_LIMIT: usize = 64 * 1024;

/// Whether something may have to be told the daemon.
static DIRTY: AtomicBool = AtomicBool::new(false);

/// Something may have to be told the daemon.
pub fn mark_dirty() {
    DIRTY.store(true, Ordering::Relaxed);
}

/// Tells the daemon what there is to tell.
#[inline]
pub fn flush_if_dirty(system: &mut System) {
    if DIRTY.load(Ordering::Relaxed) {
        flush(system);
    }
}

/// A process that the daemon has started.
#[derive(Debug)]
struct Started {
    process: Option<Rc<Process>>,
    input: Option<Rc<Stream>>,
    outputs: [Option<Rc<Stream>>; 2],
    terminal: Option<Rc<Terminal>>,
    windows: [u32; 2],
    ended: [bool; 2],
    is_over: bool,
}

/// The daemon's side.
#[derive(Debug)]
pub struct Session {
    port: Option<Port>,
    decoder: RefCell<Decoder>,
    started: BTreeMap<u32, Started>,
    out: Vec<u8>,
    console: RefCell<Option<Rc<Terminal>>>,
    /// The first process, until it is started.
    pub waiting: RefCell<Option<ProcessSpec>>,
    /// Resource limits of every process the daemon starts.
    limits: Vec<ResourceLimit>,
    /// An init of our own is process 1.
    has_init: bool,
    /// Archives on their way out, by question.
    readers: BTreeMap<u32, archive::Reader>,
    /// Archives on their way in, by question.
    writers: BTreeMap<u32, archive::Writer>,
}

impl Session {
    /// The daemon's side, with a port if the compartment has one.
    #[must_use]
    pub fn new(port: Option<Port>, spec: Spec) -> Self {
        Self {
            limits: spec.limits,
            has_init: spec.init,
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            port,
            decoder: RefCell::new(Decoder::new()),
            started: BTreeMap::new(),
            out: Vec::new(),
            console: RefCell::new(None),
            waiting: RefCell::new(Some(spec.process)),
        }
    }
    /// The container's terminal.
    #[must_use]
    pub fn console(&self) -> Option<Rc<Terminal>> {
        self.console.borrow().clone()
    }
    fn say(&mut self, message: &FromCompartment) {
        // Messages are short; one that cannot be encoded could not have been built.
        let _ = wire::encode(message, &mut self.out);
        mark_dirty();
    }
    fn send(&mut self) {
        let Some(port) = &self.port else {
            self.out.clear();
            return;
        };
        if let Ok(count) = port.write(&self.out) {
            self.out.drain(..count);
        }
    }
}

/// Moves output, ends and exits to the port.
fn flush(system: &mut System) {
    DIRTY.store(false, Ordering::Relaxed);
    hang_up_terminals(system);
    let numbers: Vec<u32> = system.session.started.keys().copied().collect();
    for number in numbers {
        flush_process(system, number);
    }
    flush_archives(system);
    system.session.send();
    if system.processes.task_count() > 0 {
        return;
    }
    let Some(first) = system.session.started.get(&0) else { return };
    if first.is_over && system.session.out.is_empty() {
        rt::exit();
    }
    // The compartment stays until the daemon has heard all; the first process's memory does not.
    first.process.as_deref().into_iter().for_each(exit::drop_memory);
    if first.is_over {
        mark_dirty();
    }
}

/// Adds parts of the archives that are on their way out, as far as there is room; an empty part is the end.
fn flush_archives(system: &mut System) {
    let session = &mut system.session;
    while session.out.len() < OUT_LIMIT {
        let Some(mut reader) = session.readers.first_entry() else { return };
        let question = *reader.key();
        let part = reader.get_mut().part();
        let answer = match &part {
            Ok(bytes) if bytes.is_empty() => Some(Answer::Done),
            Ok(_) => None,
            Err(errno) => Some(failed(*errno, "the archive cannot be made")),
        };
        session.say(&FromCompartment::ArchiveData { question, bytes: part.unwrap_or_default() });
        if let Some(answer) = answer {
            session.readers.remove(&question);
            session.say(&FromCompartment::Answer { question, answer });
        }
    }
}

/// Terminals whose master has gone tell their sessions.
fn hang_up_terminals(system: &System) {
    for terminal in system.terminals.all().into_iter().filter(|terminal| terminal.hangs_up.take()) {
        let leader = system.processes.get(terminal.session.get());
        for signo in [SIGHUP, SIGCONT] {
            if let Some(leader) = &leader {
                signal::send_to_process(leader, signo, signal::info_from_kernel(signo));
            }
            if terminal.foreground.get() != 0
                && Some(terminal.foreground.get())
                    != leader.as_ref().map(|leader| leader.group.get())
            {
                system.signal_group(
                    terminal.foreground.get(),
                    signo,
                    signal::info_from_kernel(signo),
                );
            }
        }
    }
}

fn flush_process(system: &mut System, number: u32) {
    for index in 0..2 {
        while system.session.out.len() < OUT_LIMIT {
            let Some(started) = system.session.started.get_mut(&number) else { return };
            let window = started.windows[index] as usize;
            let bytes = match (&started.terminal, &started.outputs[index]) {
                (Some(terminal), _) if index == 0 => terminal.take_shown(window.min(MAX_BYTES)),
                (None, Some(stream)) => stream.take(window.min(MAX_BYTES)),
                _ => Vec::new(),
            };
            if bytes.is_empty() {
                break;
            }
            started.windows[index] -= bytes.len() as u32;
            let stream = index as u8 + 1;
            system.session.say(&FromCompartment::Output { process: number, stream, bytes });
        }
        end_stream(system, number, index);
    }
    give_window(system, number);
    report_end(system, number);
}

fn end_stream(system: &mut System, number: u32, index: usize) {
    let Some(started) = system.session.started.get_mut(&number) else { return };
    let is_done = started.outputs[index]
        .as_ref()
        .is_some_and(|stream| stream.length() == 0 && !stream.is_used());
    if is_done && !started.ended[index] {
        started.ended[index] = true;
        system
            .session
            .say(&FromCompartment::EndOutput { process: number, stream: index as u8 + 1 });
    }
}

fn give_window(system: &mut System, number: u32) {
    let Some(started) = system.session.started.get(&number) else { return };
    let taken = started.input.as_ref().map_or(0, |stream| stream.taken.take());
    if taken > 0 {
        system.session.say(&FromCompartment::Window { process: number, bytes: taken });
    }
}

/// Tells of a process's end once all its output has gone.
fn report_end(system: &mut System, number: u32) {
    let Some(started) = system.session.started.get_mut(&number) else { return };
    let Some(process) = started.process.clone().filter(|_| !started.is_over) else { return };
    let Life::Zombie(status) = process.life.get() else { return };
    let waits_for_room = started.outputs.iter().flatten().any(|stream| stream.length() > 0)
        || started.terminal.as_ref().is_some_and(|terminal| terminal.shown_length() > 0);
    if waits_for_room && system.session.port.is_some() {
        return;
    }
    started.is_over = true;
    system.processes.remove(process.pid);
    let status = match status & 0x7f {
        0 => ExitStatus::Code((status >> 8) as u8),
        signal => {
            ExitStatus::Signal { signal: signal as u8, out_of_memory: process.out_of_memory.get() }
        }
    };
    system.session.say(&FromCompartment::Exited { process: number, status });
}

/// Reads what the daemon has sent.
pub fn serve(system: &mut System) {
    let mut buffer = [0; 2048];
    loop {
        let count = match &system.session.port {
            Some(port) => port.read(&mut buffer).unwrap_or(0),
            None => 0,
        };
        if count == 0 {
            break;
        }
        system.session.decoder.borrow_mut().feed(buffer.get(..count).unwrap_or_default());
        loop {
            let message = system.session.decoder.borrow_mut().next::<ToCompartment>();
            match message {
                Ok(Some(message)) => handle(system, message),
                Ok(None) => break,
                Err(_) => {
                    rt::log!("personality: the daemon's messages are malformed");
                    rt::exit();
                }
            }
        }
    }
    mark_dirty();
    flush_if_dirty(system);
}

fn handle(system: &mut System, message: ToCompartment) {
    match message {
        ToCompartment::Start => {
            let waiting = system.session.waiting.take();
            if let Some(spec) = waiting {
                start(system, 0, spec);
            }
        }
        ToCompartment::Input { process, bytes } => input(system, process, &bytes),
        ToCompartment::EndInput { process } => {
            if let Some(stream) =
                system.session.started.get(&process).and_then(|started| started.input.clone())
            {
                stream.end();
            }
        }
        ToCompartment::Window { process, stream, bytes } => {
            let started = system.session.started.get_mut(&process);
            if let Some(window) = started
                .and_then(|started| started.windows.get_mut(usize::from(stream).wrapping_sub(1)))
            {
                *window = window.saturating_add(bytes);
            }
        }
        ToCompartment::Signal { process, signal } => {
            let target =
                system.session.started.get(&process).and_then(|started| started.process.clone());
            if let Some(process) = target.filter(|_| (1..=64).contains(&signal)) {
                signal::send_to_process(&process, signal, signal::info_from_kernel(signal));
            }
        }
        ToCompartment::Resize { process, size } => {
            let terminal =
                system.session.started.get(&process).and_then(|started| started.terminal.clone());
            if let Some(terminal) = terminal
                && terminal.set_size(Winsize {
                    rows: size.rows,
                    columns: size.columns,
                    xpixel: 0,
                    ypixel: 0,
                })
            {
                system.signal_group(
                    terminal.foreground.get(),
                    SIGWINCH,
                    signal::info_from_kernel(SIGWINCH),
                );
            }
        }
        ToCompartment::Exec { process, spec } => {
            if !system.session.started.contains_key(&process) {
                start(system, process, spec);
            }
        }
        ToCompartment::Ask { question, what } => {
            if let Some(answer) = answer(system, question, &what) {
                system.session.say(&FromCompartment::Answer { question, answer });
            }
        }
        ToCompartment::ArchiveData { question, bytes } => unpack(system, question, &bytes),
        ToCompartment::Budget(budget) => {
            let limit = budget.memory.is_some() || budget.threads.is_some();
            if limit
                || budget.cpu_millis.is_some()
                || budget.cpu_weight.is_some()
                || budget.cpu_set.is_some()
            {
                let own = &mut system.budget;
                own.memory = budget.memory.or(own.memory);
                own.threads = budget.threads.or(own.threads);
                own.cpu_millis = budget.cpu_millis.or(own.cpu_millis);
                own.cpu_weight = budget.cpu_weight.or(own.cpu_weight);
                own.cpu_set = budget.cpu_set.or(own.cpu_set);
            }
        }
    }
}

fn input(system: &mut System, number: u32, bytes: &[u8]) {
    let Some(started) = system.session.started.get(&number) else { return };
    if let Some(terminal) = started.terminal.clone() {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, signo) = terminal.type_in(rest);
            if let Some(signo) = signo {
                system.signal_group(
                    terminal.foreground.get(),
                    signo,
                    signal::info_from_kernel(signo),
                );
            }
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        // What does not fit is lost, as on a real terminal.
        system.session.say(&FromCompartment::Window { process: number, bytes: bytes.len() as u32 });
    } else if let Some(stream) = &started.input {
        stream.give(bytes);
    }
}

/// The answer to a question, unless it comes later.
fn answer(system: &mut System, question: u32, what: &Question) -> Option<Answer> {
    Some(match what {
        Question::Processes => Answer::Processes(
            system.processes.all().iter().map(|process| record(process)).collect(),
        ),
        Question::TaskCount => Answer::TaskCount(system.processes.population() as u64),
        Question::Gaps => Answer::Gaps(
            system.gaps.iter().map(|(name, count)| ((*name).to_string(), *count)).collect(),
        ),
        Question::PathStat(path) => match archive::stat(system, path) {
            Ok(stat) => Answer::PathStat(stat),
            Err(errno) => failed_path(errno, path),
        },
        Question::GetArchive(path) => match archive::Reader::begin(system, path) {
            Ok(reader) => {
                system.session.readers.insert(question, reader);
                return None;
            }
            Err(errno) => {
                // Whoever waits for the archive learns that there is none.
                let bytes = Vec::new();
                system.session.say(&FromCompartment::ArchiveData { question, bytes });
                failed_path(errno, path)
            }
        },
        Question::PutArchive(path) => match archive::Writer::begin(system, path) {
            Ok(writer) => {
                system.session.writers.insert(question, writer);
                return None;
            }
            Err(errno) => failed_path(errno, path),
        },
    })
}

fn failed(errno: Errno, what: &str) -> Answer {
    Answer::Failed { errno: errno.0, message: format!("{what}: {}", describe(errno)) }
}

fn failed_path(errno: Errno, path: &[u8]) -> Answer {
    failed(errno, &String::from_utf8_lossy(path))
}

/// Takes a part of an archive; what comes after a refusal is dropped.
fn unpack(system: &mut System, question: u32, bytes: &[u8]) {
    let Some(writer) = system.session.writers.get_mut(&question) else { return };
    let taken = if bytes.is_empty() { writer.finish() } else { writer.take(bytes) };
    let answer = match taken {
        Ok(()) if bytes.is_empty() => Answer::Done,
        Ok(()) => return,
        Err(errno) => failed(errno, "the archive cannot be unpacked"),
    };
    system.session.writers.remove(&question);
    system.session.say(&FromCompartment::Answer { question, answer });
}

/// An error in the words of strerror(3), for those that users meet.
fn describe(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "no such file or directory",
        Errno::EACCES => "permission denied",
        Errno::ENOEXEC => "exec format error",
        Errno::ENOMEM => "not enough memory",
        Errno::ENOSPC => "no space left on device",
        Errno::ENOTDIR => "not a directory",
        Errno::EISDIR => "a directory is in the way",
        Errno::EROFS => "read-only file system",
        Errno::EINVAL => "invalid argument",
        Errno::ELOOP => "too many symbolic links",
        errno => errno.name(),
    }
}

fn record(process: &Process) -> ProcessRecord {
    let terminal = process
        .terminal
        .borrow()
        .as_ref()
        .map_or_else(String::new, |terminal| format!("pts/{}", terminal.index));
    ProcessRecord {
        pid: process.pid.cast_unsigned(),
        parent: process.parent.get().cast_unsigned(),
        user: process.credentials.borrow().users[0],
        state: crate::file::proc::state_letter(process) as u8,
        cpu_nanoseconds: rt::clock::nanoseconds(process.cpu_time().0),
        started: crate::system::time::epoch() + rt::clock::nanoseconds(process.started),
        terminal,
        command: process.program.borrow().arguments.join(&b' '),
    }
}
