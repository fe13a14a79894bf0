//! The daemon's side: messages of the port, the processes it has started, their streams; and the timers' thread.
//!
//! Nothing the daemon says can harm more than this compartment; still, everything is checked before it is used.

use crate::{
    file::{Object, OpenFile, path::Walker, stream::Stream, terminal::Terminal},
    linux::{
        Errno, O_RDONLY, O_RDWR, O_WRONLY, SIGALRM, SIGCONT, SIGHUP, SIGWINCH, layouts::Winsize,
    },
    machine::Handed,
    system::{SYSTEM, System},
    task::{Life, Place, Process, Task, credentials::Credentials, exec, exit, fork, run, signal},
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
        Answer, ExitStatus, FromCompartment, INITIAL_WINDOW, MAX_BYTES, ProcessRecord, ProcessSpec,
        Question, StartFailure, ToCompartment,
    },
    wire::{self, Decoder},
};
use core::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicBool, Ordering},
};
use rt::port::Port;

pub mod users;

/// Search path of programs when the environment has none.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
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
}

impl Session {
    /// The daemon's side, with a port if the compartment has one.
    #[must_use]
    pub fn new(port: Option<Port>, waiting: Option<ProcessSpec>) -> Self {
        Self {
            port,
            decoder: RefCell::new(Decoder::new()),
            started: BTreeMap::new(),
            out: Vec::new(),
            console: RefCell::new(None),
            waiting: RefCell::new(waiting),
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
    system.session.send();
    let is_over = system.session.started.get(&0).is_some_and(|started| started.is_over)
        && system.processes.task_count() == 0;
    if is_over && system.session.out.is_empty() {
        rt::exit();
    }
    if is_over {
        mark_dirty();
    }
}

/// Terminals whose master has gone tell their sessions.
fn hang_up_terminals(system: &System) {
    let terminals: Vec<Rc<Terminal>> =
        system.terminals.map.borrow().values().filter_map(alloc::rc::Weak::upgrade).collect();
    for terminal in terminals.into_iter().filter(|terminal| terminal.hangs_up.take()) {
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
    let mut buffer = alloc::vec![0; 8192];
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
            let answer = answer(system, &what);
            system.session.say(&FromCompartment::Answer { question, answer });
        }
        ToCompartment::ArchiveData { .. } => {}
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

fn answer(system: &System, what: &Question) -> Answer {
    match what {
        Question::Processes => Answer::Processes(
            system.processes.all().iter().map(|process| record(process)).collect(),
        ),
        Question::Gaps => Answer::Gaps(
            system.gaps.iter().map(|(name, count)| ((*name).to_string(), *count)).collect(),
        ),
        _ => Answer::Failed {
            errno: Errno::ENOSYS.0,
            message: String::from("this question is not supported"),
        },
    }
}

fn record(process: &Process) -> ProcessRecord {
    let terminal = process.terminal.borrow().as_ref().map_or_else(String::new, |terminal| {
        match terminal.index {
            Some(index) => format!("pts/{index}"),
            None => String::from("console"),
        }
    });
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

/// Starts a process for the daemon; failures are told it.
pub fn start(system: &mut System, number: u32, spec: ProcessSpec) {
    if let Err(failure) = try_start(system, number, spec) {
        system.session.started.remove(&number);
        fail(system, number, failure);
    }
}

fn fail(system: &mut System, number: u32, failure: StartFailure) {
    system.session.say(&FromCompartment::NotStarted { process: number, failure });
    if number == 0 {
        // Nothing else will ever run here.
        let over = Started {
            process: None,
            input: None,
            outputs: [None, None],
            terminal: None,
            windows: [0; 2],
            ended: [true; 2],
            is_over: true,
        };
        system.session.started.insert(0, over);
    }
}

fn refused(errno: Errno) -> StartFailure {
    StartFailure::Refused(errno.name().to_string())
}

fn try_start(system: &mut System, number: u32, spec: ProcessSpec) -> Result<(), StartFailure> {
    let place = Rc::new(Place {
        root: RefCell::new(system.root.clone()),
        working: RefCell::new(system.root.clone()),
        mask: Cell::new(0o022),
    });
    let user = crate::session::users::resolve(&place, &spec.user, &spec.groups)?;
    let pid = if number == 0 { 1 } else { system.processes.take_number().map_err(refused)? };
    let process = fork::first_process(&system.processes, pid, number).map_err(refused)?;
    if number == 0 {
        let _ = system.processes.take_number();
    }
    let made = furnish(system, number, &spec, &place, &process, user.credentials);
    match made {
        Ok((task, prepared)) => {
            if let Some(started) = system.session.started.get_mut(&number) {
                started.process = Some(process);
            }
            let handed = Handed((task, spec, user.home));
            let begun = prepared.start(move || {
                let handed = handed;
                begin(handed, number);
            });
            begun.map(|_| ()).map_err(|_| refused(Errno::EAGAIN))
        }
        Err(errno) => {
            system.processes.remove(pid);
            Err(refused(errno))
        }
    }
}

type Furnished = (Rc<Task>, rt::thread::Prepared);

/// Streams, files and the first task of a process.
fn furnish(
    system: &mut System,
    number: u32,
    spec: &ProcessSpec,
    place: &Rc<Place>,
    process: &Rc<Process>,
    credentials: Credentials,
) -> Result<Furnished, Errno> {
    *process.credentials.borrow_mut() = Rc::new(credentials);
    let mut started = Started {
        process: None,
        input: None,
        outputs: [None, None],
        terminal: None,
        windows: [INITIAL_WINDOW; 2],
        ended: [false; 2],
        is_over: false,
    };
    let mut files = crate::file::FileTable::default();
    let mut add = |object, flags| {
        files.insert(OpenFile::new(object, None, flags, Vec::new()), false, 0, 1024).map(|_| ())
    };
    if let Some(size) = spec.terminal {
        let terminal = if number == 0 {
            let terminal = Rc::new(Terminal::new(None, size.rows, size.columns));
            *system.session.console.borrow_mut() = Some(terminal.clone());
            terminal
        } else {
            let terminal = Rc::new(Terminal::new(None, size.rows, size.columns));
            terminal.locked.set(false);
            terminal
        };
        terminal.session.set(process.pid);
        terminal.foreground.set(process.pid);
        *process.terminal.borrow_mut() = Some(terminal.clone());
        for _ in 0..3 {
            add(Object::Terminal(terminal.clone()), O_RDWR)?;
        }
        started.terminal = Some(terminal);
    } else {
        let input = Rc::new(Stream::default());
        if !spec.stdin {
            input.end();
        }
        add(Object::Input(input.clone()), O_RDONLY)?;
        started.input = Some(input);
        for output in &mut started.outputs {
            let stream = Rc::new(Stream::default());
            add(Object::Output(stream.clone()), O_WRONLY)?;
            *output = Some(stream);
        }
    }
    system.session.started.insert(number, started);
    let prepared = rt::thread::prepare(true)?;
    let task = Rc::new(Task {
        tid: process.pid,
        process: process.clone(),
        thread: prepared.thread(),
        state: crate::machine::GuestState::new(prepared.state_page()),
        files: RefCell::new(Rc::new(RefCell::new(files))),
        place: RefCell::new(place.clone()),
        mask: Cell::new(0),
        saved_mask: Cell::new(None),
        pending: RefCell::default(),
        alternate_stack: Cell::new(crate::linux::layouts::Sigaltstack {
            sp: 0,
            flags: signal::SS_DISABLE,
            padding: 0,
            size: 0,
        }),
        clear_tid: Cell::new(0),
        robust_list: Cell::new(0),
        call: Cell::default(),
        opening: RefCell::new(None),
        is_ending: Cell::new(false),
        has_work: Cell::new(false),
        futex: Cell::default(),
        name: Cell::new([0; 16]),
        rseq: Cell::new((0, 0)),
    });
    process.tasks.borrow_mut().push(task.clone());
    system.processes.insert_task(task.clone());
    Ok((task, prepared))
}

/// The first steps of a process's thread: the program is loaded, then run.
fn begin(handed: Handed<(Rc<Task>, ProcessSpec, Vec<u8>)>, number: u32) {
    let (task, spec, home) = handed.0;
    crate::machine::guest::catch_faults();
    SYSTEM.with(|system| {
        match load(system, &task, &spec, &home) {
            Ok(()) => {
                let pid = task.process.pid.cast_unsigned();
                system.session.say(&FromCompartment::Started { process: number, pid });
            }
            Err(failure) => {
                if let Some(started) = system.session.started.get_mut(&number) {
                    started.is_over = true;
                }
                exit::exit_process(&task.process, 127 << 8);
                task.process.daemon_number.set(None);
                if number != 0 {
                    system.session.started.remove(&number);
                }
                fail(system, number, failure);
            }
        }
        drop(spec);
        flush_if_dirty(system);
    });
    run::run(task);
}

fn load(
    system: &System,
    task: &Rc<Task>,
    spec: &ProcessSpec,
    home: &[u8],
) -> Result<(), StartFailure> {
    let place = task.place();
    let credentials = task.credentials();
    let walker = Walker { place: &place, credentials: &credentials, start: None };
    let root = Credentials::new(0, 0, Vec::new());
    let all = Walker { place: &place, credentials: &root, start: None };
    if !spec.working_directory.is_empty() {
        let node = crate::file_system::make_directories(&all, &spec.working_directory).map_err(
            |errno| {
                StartFailure::Refused(format!(
                    "working directory {}: {}",
                    String::from_utf8_lossy(&spec.working_directory),
                    errno.name()
                ))
            },
        )?;
        *place.working.borrow_mut() = node;
    }
    let mut environment = spec.environment.clone();
    if !environment.iter().any(|entry| entry.starts_with(b"HOME=")) {
        environment.push([b"HOME=", home].concat());
    }
    let name = spec.arguments.first().cloned().unwrap_or_default();
    let (node, path) = find_program(&walker, &name, &environment)?;
    let request = exec::Request { node, path, arguments: spec.arguments.clone(), environment };
    let loaded = exec::load(request, &walker, &task.process).map_err(|errno| {
        let text = format!("{}: {}", String::from_utf8_lossy(&name), describe(errno));
        if errno == Errno::ENOENT {
            StartFailure::NotFound(text)
        } else {
            StartFailure::NotExecutable(text)
        }
    })?;
    exec::enter(task, loaded);
    let _ = system;
    Ok(())
}

fn describe(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "no such file or directory",
        Errno::EACCES => "permission denied",
        Errno::ENOEXEC => "exec format error",
        Errno::ENOMEM => "not enough memory",
        errno => errno.name(),
    }
}

/// Finds a program as execvp(3) does.
fn find_program(
    walker: &Walker<'_>,
    name: &[u8],
    environment: &[Vec<u8>],
) -> Result<(Rc<crate::file::Node>, Vec<u8>), StartFailure> {
    let text = String::from_utf8_lossy(name).into_owned();
    if name.contains(&b'/') {
        return match walker.find(name, true) {
            Ok(node) => Ok((node, name.to_vec())),
            Err(Errno::EACCES) => {
                Err(StartFailure::NotExecutable(format!("{text}: permission denied")))
            }
            Err(errno) => Err(StartFailure::NotFound(format!("{text}: {}", describe(errno)))),
        };
    }
    let path =
        environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = [directory, b"/", name].concat();
        if let Ok(node) = walker.find(&candidate, true) {
            if node.file_type() == crate::linux::S_IFREG && walker.check(&node.meta(), 1).is_ok() {
                return Ok((node, candidate));
            }
            denied = true;
        }
    }
    if denied {
        return Err(StartFailure::NotExecutable(format!("{text}: permission denied")));
    }
    Err(StartFailure::NotFound(format!("{text}: executable file not found in $PATH")))
}

// Timers.

/// Makes sure that the timers' thread looks at a time.
pub fn arm_timers(system: &System, next: u64) {
    if let Some(thread) = system.timer_thread.get() {
        if next < system.timer_next.get() {
            system.timer_next.set(next);
            let _ = thread.unpark();
        }
        return;
    }
    system.timer_next.set(next);
    if let Ok(thread) = rt::thread::spawn(false, timers) {
        system.timer_thread.set(Some(thread));
    }
}

/// The timers' thread: fires what is due, sleeps until the next.
fn timers() {
    loop {
        let next = SYSTEM.with(|system| {
            let next = fire(system, rt::clock::now());
            system.timer_next.set(next);
            next
        });
        let _ = rt::thread::park_until(next.unwrap_or(u64::MAX));
    }
}

/// Fires every timer that is due; when the next is.
fn fire(system: &System, now: u64) -> u64 {
    let mut next = u64::MAX;
    for process in system.processes.all() {
        let (at, interval) = process.alarm.get();
        if at != 0 && at <= now {
            let after = if interval == 0 { 0 } else { at + interval * (1 + (now - at) / interval) };
            process.alarm.set((after, interval));
            signal::send_to_process(&process, SIGALRM, signal::info_from_kernel(SIGALRM));
        }
        if process.alarm.get().0 != 0 {
            next = next.min(process.alarm.get().0);
        }
        let timers: Vec<_> = process.timers.borrow().values().cloned().collect();
        for timer in timers {
            next = next.min(fire_timer(system, &process, &timer, now));
        }
    }
    next
}

fn fire_timer(system: &System, process: &Rc<Process>, timer: &signal::PosixTimer, now: u64) -> u64 {
    let (at, interval) = timer.next.get();
    if at != 0 && at <= now {
        let missed = (now - at).checked_div(interval).unwrap_or(0);
        let after = if interval == 0 { 0 } else { at + interval * (1 + missed) };
        timer.next.set((after, interval));
        timer.overrun.set(missed);
        if timer.signo != 0 {
            let mut info = signal::info_from(timer.signo, crate::linux::SI_TIMER, 0, 0);
            info.fields[0] = u64::from(timer.id.cast_unsigned()) | missed << 32;
            info.fields[1] = timer.value;
            match system.processes.task(timer.tid) {
                Some(task) if timer.tid != 0 => signal::send_to_task(&task, timer.signo, info),
                _ => signal::send_to_process(process, timer.signo, info),
            }
        }
    }
    match timer.next.get().0 {
        0 => u64::MAX,
        at => at,
    }
}
