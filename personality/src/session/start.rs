//! Starting processes for the daemon: streams, credentials, limits, the program.

use super::{Started, describe, flush_if_dirty};
use crate::{
    file::{Kind, Node, Object, OpenFile, path::Walker, stream::Stream},
    linux::{
        Errno, O_RDONLY, O_RDWR, O_WRONLY,
        layouts::{Rlimit, Winsize},
    },
    machine::Handed,
    system::{SYSTEM, System},
    task::{Place, Process, Task, credentials::Credentials, exec, exit, fork, run, signal},
};
use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};
use contract::compartment::{
    FromCompartment, INITIAL_WINDOW, ProcessSpec, ResourceLimit, StartFailure,
};
use core::cell::{Cell, RefCell};

/// Search path of programs when the environment has none.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    if number != 0 && !system.session.started.contains_key(&0) {
        return Err(StartFailure::Refused("the first process has not been started".to_string()));
    }
    let init = match number {
        0 if system.session.has_init => Some(fork::init_process(&system.processes)),
        _ => None,
    };
    let init = init.transpose().map_err(refused)?;
    let pid = system.processes.take_number().map_err(refused)?;
    let process = fork::first_process(&system.processes, pid, number).map_err(refused)?;
    if let Some(init) = init {
        process.parent.set(init.pid);
        *init.delegate.borrow_mut() = Rc::downgrade(&process);
    }
    limit(&process, &system.session.limits)?;
    super::watch_cpu_limit(system, &process);
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

/// Sets the resource limits that the daemon asked for.
fn limit(process: &Process, wanted: &[ResourceLimit]) -> Result<(), StartFailure> {
    let mut limits = process.limits.borrow_mut();
    for limit in wanted {
        let place = limits.get_mut(limit.resource as usize).filter(|_| limit.soft <= limit.hard);
        let place = place.ok_or_else(|| {
            StartFailure::Refused(format!("resource limit {} cannot be set", limit.resource))
        })?;
        *place = Rlimit { soft: limit.soft, hard: limit.hard };
    }
    Ok(())
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
    let mut add = |object, node, flags| {
        files.insert(OpenFile::new(object, node, flags, Vec::new()), false, 0, 1024).map(|_| ())
    };
    if let Some(size) = spec.terminal {
        let user = process.credentials.borrow().users[1];
        let terminal = system.terminals.create(user, true);
        terminal.set_size(Winsize { rows: size.rows, columns: size.columns, xpixel: 0, ypixel: 0 });
        if number == 0 {
            *system.session.console.borrow_mut() = Some(terminal.clone());
        }
        terminal.session.set(process.pid);
        terminal.foreground.set(process.pid);
        *process.terminal.borrow_mut() = Some(terminal.clone());
        for _ in 0..3 {
            let node = system.terminals.node(terminal.index);
            add(Object::Terminal(terminal.clone()), node, O_RDWR)?;
        }
        started.terminal = Some(terminal);
    } else {
        let input = Rc::new(Stream::default());
        if !spec.stdin {
            input.end();
        }
        let kind = Kind::Stream { stream: input.clone(), is_input: true };
        let node = Node::unnamed_pipe(kind, 0, 0);
        add(Object::Input(input.clone()), Some(node), O_RDONLY)?;
        started.input = Some(input);
        for output in &mut started.outputs {
            let stream = Rc::new(Stream::default());
            let kind = Kind::Stream { stream: stream.clone(), is_input: false };
            let node = Node::unnamed_pipe(kind, 0, 0);
            add(Object::Output(stream.clone()), Some(node), O_WRONLY)?;
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
        match load(system, &task, spec, &home) {
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
        flush_if_dirty(system);
    });
    run::run(task);
}

fn load(
    system: &System,
    task: &Rc<Task>,
    spec: ProcessSpec,
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
    let ProcessSpec { arguments, mut environment, .. } = spec;
    if !environment.iter().any(|entry| entry.starts_with(b"HOME=")) {
        environment.push([b"HOME=", home].concat());
    }
    let name = arguments.first().cloned().unwrap_or_default();
    let (node, path) = find_program(&walker, &name, &environment)?;
    let request = exec::Request { node, path, arguments, environment };
    let loaded = exec::load(request, &walker, &task.process, &system.vdso).map_err(|errno| {
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

/// Finds a program as execvp(3) does.
fn find_program(
    walker: &Walker<'_>,
    name: &[u8],
    environment: &[Vec<u8>],
) -> Result<(Rc<Node>, Vec<u8>), StartFailure> {
    let text = || String::from_utf8_lossy(name);
    if name.contains(&b'/') {
        return match walker.find(name, true) {
            Ok(node) => Ok((node, name.to_vec())),
            Err(Errno::EACCES) => {
                Err(StartFailure::NotExecutable(format!("{}: permission denied", text())))
            }
            Err(errno) => Err(StartFailure::NotFound(format!("{}: {}", text(), describe(errno)))),
        };
    }
    let path =
        environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = false;
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = [directory, b"/", name].concat();
        if let Ok(node) = walker.find(&candidate, true) {
            let is_file = node.file_type() == crate::linux::S_IFREG;
            if is_file && walker.check(&node.meta(), 1).is_ok() {
                return Ok((node, candidate));
            }
            // A directory is no program that anybody could be denied; the empty name leads to one.
            denied |= is_file;
        }
    }
    if denied {
        return Err(StartFailure::NotExecutable(format!("{}: permission denied", text())));
    }
    Err(StartFailure::NotFound(format!("{}: executable file not found in $PATH", text())))
}
