//! New tasks and processes (clone(2), fork(2), vfork(2)).

use super::{Call, Life, Place, Process, Processes, Task, run, signal::Pending};
use crate::{
    linux::{
        CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_FILES, CLONE_FS, CLONE_NAMESPACES,
        CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK,
        CLONE_VM, Errno, RLIMIT_NPROC, layouts::CloneArgs,
    },
    machine::{
        Handed, guest,
        state::{self, Vectors},
    },
    system::System,
};
use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

/// Makes a new task or process from the calling one; its number.
///
/// # Errors
/// Those of clone(2).
pub fn clone(system: &mut System, task: &Rc<Task>, arguments: &CloneArgs) -> Result<i32, Errno> {
    let flags = arguments.flags;
    check(flags)?;
    if rt::heap::is_short() {
        return Err(Errno::ENOMEM);
    }
    if flags & CLONE_NAMESPACES != 0 {
        crate::gap!(system, "clone: new namespaces");
        return Err(Errno::EPERM);
    }
    let most = system.budget.threads.unwrap_or(u64::MAX).min(task.process.limit(RLIMIT_NPROC));
    if system.processes.task_count() as u64 >= most {
        return Err(Errno::EAGAIN);
    }
    let tid = system.processes.take_number()?;
    let prepared = rt::thread::prepare(true).map_err(|_| Errno::EAGAIN)?;
    let made = build(system, task, arguments, tid, &prepared);
    let child = match made {
        Ok(child) => child,
        Err(errno) => {
            prepared.abandon();
            return Err(errno);
        }
    };
    if flags & CLONE_PARENT_SETTID != 0 && guest::write(arguments.parent_tid, &tid).is_err() {
        // Linux ignores a bad address here.
        crate::gap!(system, "clone: parent_tid at a bad address");
    }
    if flags & CLONE_CHILD_CLEARTID != 0 {
        child.clear_tid.set(arguments.child_tid);
    }
    let set_tid = (flags & CLONE_CHILD_SETTID != 0).then_some(arguments.child_tid);
    if let Some(address) = set_tid.filter(|_| flags & CLONE_VM != 0) {
        let _ = guest::write(address, &tid);
    }
    child.state.set_registers(&task.state.registers());
    child.state.set_rax(0);
    if arguments.stack != 0 {
        child.state.set_rsp(arguments.stack + arguments.stack_size);
    }
    let start = Start {
        task: child.clone(),
        fs: if flags & CLONE_SETTLS != 0 { arguments.tls } else { state::fs_base() },
        gs: state::gs_base(),
        vectors: Vectors::saved(),
        set_tid: set_tid.filter(|_| flags & CLONE_VM == 0),
    };
    system.processes.insert_task(child.clone());
    child.process.tasks.borrow_mut().push(child.clone());
    if flags & CLONE_THREAD == 0 {
        system.processes.insert(child.process.clone());
        crate::session::watch_cpu_limit(system, &child.process);
    }
    start_thread(prepared, start).map_err(|_| Errno::EAGAIN)?;
    Ok(tid)
}

/// What a new thread has to do first.
pub(super) struct Start {
    pub(super) task: Rc<Task>,
    pub(super) fs: u64,
    pub(super) gs: u64,
    pub(super) vectors: Box<Vectors>,
    /// A word of the child's own memory that gets its number.
    pub(super) set_tid: Option<u64>,
}

pub(super) fn start_thread(prepared: rt::thread::Prepared, start: Start) -> rt::Result<()> {
    let handed = Handed(start);
    prepared
        .start(move || {
            let handed = handed;
            run::begin(handed);
        })
        .map(|_| ())
}

fn check(flags: u64) -> Result<(), Errno> {
    let is_bad = (flags & CLONE_THREAD != 0 && flags & CLONE_SIGHAND == 0)
        || (flags & CLONE_SIGHAND != 0 && flags & CLONE_VM == 0)
        || (flags & 0xff > 64);
    if is_bad { Err(Errno::EINVAL) } else { Ok(()) }
}

fn build(
    system: &System,
    task: &Rc<Task>,
    arguments: &CloneArgs,
    tid: i32,
    prepared: &rt::thread::Prepared,
) -> Result<Rc<Task>, Errno> {
    let flags = arguments.flags;
    let process = if flags & CLONE_THREAD != 0 {
        task.process.clone()
    } else {
        fork_process(system, task, arguments, tid)?
    };
    let files = task.files();
    let files = if flags & CLONE_FILES != 0 {
        files
    } else {
        Rc::new(RefCell::new(files.borrow().clone()))
    };
    let place = task.place();
    let place = if flags & CLONE_FS != 0 { place } else { copy_place(&place) };
    let child = Task {
        tid,
        process,
        thread: prepared.thread(),
        state: crate::machine::GuestState::new(prepared.state_page()),
        files: RefCell::new(files),
        place: RefCell::new(place),
        mask: task.mask.clone(),
        saved_mask: Cell::new(None),
        pending: RefCell::new(Pending::default()),
        alternate_stack: Cell::new(if flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM {
            crate::linux::layouts::Sigaltstack {
                sp: 0,
                flags: super::signal::SS_DISABLE,
                padding: 0,
                size: 0,
            }
        } else {
            task.alternate_stack.get()
        }),
        clear_tid: Cell::new(0),
        robust_list: Cell::new(0),
        call: Cell::new(Call::default()),
        opening: RefCell::new(None),
        is_ending: Cell::new(false),
        has_work: Cell::new(false),
        futex: Cell::new(super::futex::Waiting::No),
        name: task.name.clone(),
        rseq: Cell::new(if flags & CLONE_VM == 0 { task.rseq.get() } else { (0, 0) }),
    };
    Ok(Rc::new(child))
}

fn copy_place(place: &Place) -> Rc<Place> {
    Rc::new(Place {
        root: place.root.clone(),
        working: place.working.clone(),
        mask: place.mask.clone(),
    })
}

fn fork_process(
    system: &System,
    task: &Rc<Task>,
    arguments: &CloneArgs,
    pid: i32,
) -> Result<Rc<Process>, Errno> {
    let flags = arguments.flags;
    let parent = &task.process;
    let memory = parent.memory.borrow().clone();
    let shares_memory = flags & CLONE_VM != 0;
    let memory = if shares_memory { memory } else { Rc::new(memory.fork()?) };
    let actions = parent.actions.borrow().clone();
    let actions = if flags & CLONE_SIGHAND != 0 { actions } else { Rc::new((*actions).clone()) };
    let parent_pid = if flags & CLONE_PARENT != 0 { parent.parent.get() } else { parent.pid };
    let _ = system;
    Ok(Rc::new(Process {
        pid,
        parent: Cell::new(parent_pid),
        group: parent.group.clone(),
        session: parent.session.clone(),
        memory: RefCell::new(memory),
        tasks: RefCell::new(Vec::new()),
        actions: RefCell::new(actions),
        pending: RefCell::new(Pending::default()),
        credentials: RefCell::new(parent.credentials.borrow().clone()),
        limits: parent.limits.clone(),
        last_name: Cell::new([0; 16]),
        life: Cell::new(Life::Running),
        exit_signal: Cell::new(if arguments.exit_signal != 0 {
            arguments.exit_signal as u8
        } else {
            (flags & 0xff) as u8
        }),
        exiting: Cell::new(None),
        report: Cell::new(None),
        queue: crate::wait::WaitQueue::new(),
        end_queue: crate::wait::WaitQueue::new(),
        terminal: parent.terminal.clone(),
        program: parent.program.clone(),
        started: rt::clock::now(),
        daemon_number: Cell::new(None),
        borrows_memory: Cell::new(flags & CLONE_VFORK != 0),
        alarm: Cell::new((0, 0)),
        cpu_alarms: Default::default(),
        time_asked: Cell::new(0),
        timers: RefCell::default(),
        children_time: Cell::new(0),
        ended_time: Cell::new(0),
        has_executed: Cell::new(false),
        is_subreaper: Cell::new(false),
        death_signal: Cell::new(0),
        is_dumpable: parent.is_dumpable.clone(),
        no_new_privileges: parent.no_new_privileges.clone(),
        nice: parent.nice.clone(),
        oom_adjustment: parent.oom_adjustment.clone(),
        execution_domain: parent.execution_domain.clone(),
        out_of_memory: Cell::new(false),
        delegate: RefCell::default(),
    }))
}

/// A process that the daemon starts, with empty memory.
///
/// # Errors
/// `ENOMEM`.
pub fn first_process(processes: &Processes, pid: i32, number: u32) -> Result<Rc<Process>, Errno> {
    let process = Rc::new(Process {
        pid,
        parent: Cell::new(0),
        group: Cell::new(pid),
        session: Cell::new(pid),
        memory: RefCell::new(Rc::default()),
        tasks: RefCell::new(Vec::new()),
        actions: RefCell::new(Rc::new(super::signal::Actions::new())),
        pending: RefCell::new(Pending::default()),
        credentials: RefCell::new(Rc::new(super::Credentials::new(0, 0, Vec::new()))),
        limits: RefCell::new(super::default_limits()),
        last_name: Cell::new([0; 16]),
        life: Cell::new(Life::Running),
        exit_signal: Cell::new(crate::linux::SIGCHLD),
        exiting: Cell::new(None),
        report: Cell::new(None),
        queue: crate::wait::WaitQueue::new(),
        end_queue: crate::wait::WaitQueue::new(),
        terminal: RefCell::new(None),
        program: RefCell::default(),
        started: rt::clock::now(),
        daemon_number: Cell::new(Some(number)),
        borrows_memory: Cell::new(false),
        alarm: Cell::new((0, 0)),
        cpu_alarms: Default::default(),
        time_asked: Cell::new(0),
        timers: RefCell::default(),
        children_time: Cell::new(0),
        ended_time: Cell::new(0),
        has_executed: Cell::new(false),
        is_subreaper: Cell::new(false),
        death_signal: Cell::new(0),
        is_dumpable: Cell::new(true),
        no_new_privileges: Cell::new(false),
        nice: Cell::new(0),
        oom_adjustment: Cell::new(0),
        execution_domain: Cell::new(0),
        out_of_memory: Cell::new(false),
        delegate: RefCell::default(),
    });
    processes.insert(process.clone());
    Ok(process)
}

/// An init of our own as process 1: it has no code, passes signals on, and reaps at once whatever is left to it ([`super::exit`]).
///
/// # Errors
/// `ENOMEM`, `EAGAIN`.
pub fn init_process(processes: &Processes) -> Result<Rc<Process>, Errno> {
    let pid = processes.take_number()?;
    let init = first_process(processes, pid, 0)?;
    init.daemon_number.set(None);
    *init.program.borrow_mut() = super::Program {
        file: None,
        path: b"/sbin/init".to_vec(),
        arguments: alloc::vec![b"init".to_vec()],
    };
    init.actions.borrow().set(crate::linux::SIGCHLD, super::signal::IGNORE);
    Ok(init)
}
