//! Signals (signal(7), sigaction(2)): sending, choosing, frames.

use super::frame::run_handler;
use super::{Life, Process, Task};
use crate::{
    linux::{
        CLD_CONTINUED, CLD_STOPPED, Errno, POLLIN, SA_RESTART, SI_KERNEL, SIGCHLD, SIGCONT,
        SIGKILL, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH,
        layouts::{Sigaction, Siginfo},
    },
    system::System,
    wait::WaitQueue,
};
use alloc::{collections::VecDeque, rc::Rc};
use core::cell::{Cell, RefCell};

/// Signals of which several wait in order.
const FIRST_REAL_TIME: u8 = 32;
/// Queued signals of one kind of queue (RLIMIT_SIGPENDING is larger).
const MAX_QUEUED: usize = 4096;
/// `sigaltstack` flags.
pub(super) const SS_ONSTACK: i32 = 1;
/// Stack is not in use.
pub const SS_DISABLE: i32 = 2;
/// What a process does on each signal.
#[derive(Clone, Debug)]
pub struct Actions(pub RefCell<[Sigaction; 64]>);

impl Actions {
    /// All defaults.
    #[must_use]
    pub fn new() -> Self {
        Self(RefCell::new([Sigaction::default(); 64]))
    }
    /// The action of a signal.
    #[must_use]
    pub fn get(&self, signo: u8) -> Sigaction {
        self.0.borrow().get(usize::from(signo) - 1).copied().unwrap_or_default()
    }
    /// Changes what handles a signal.
    pub fn set(&self, signo: u8, handler: u64) {
        if let Some(action) = self.0.borrow_mut().get_mut(usize::from(signo).wrapping_sub(1)) {
            action.handler = handler;
        }
    }
    /// Signals whose action is to ignore them.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        let actions = self.0.borrow();
        (0..64)
            .filter(|index| actions.get(*index).is_some_and(|action| action.handler == IGNORE))
            .fold(0, |set, index| set | 1 << index)
    }
    /// What execve(2) leaves: handlers become defaults.
    pub fn reset_handlers(&self) {
        for action in &mut *self.0.borrow_mut() {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Sigaction { handler, ..Sigaction::default() };
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

/// SIG_DFL.
pub const DEFAULT: u64 = 0;
/// SIG_IGN.
pub const IGNORE: u64 = 1;

/// Signals that wait.
#[derive(Debug, Default)]
pub struct Pending {
    set: u64,
    queue: VecDeque<Siginfo>,
    /// Those who are told of every signal (epoll over a signalfd).
    pub observers: WaitQueue,
}

impl Pending {
    /// The set.
    #[must_use]
    pub const fn set(&self) -> u64 {
        self.set
    }
    fn push(&mut self, info: Siginfo) {
        let signo = info.signo as u8;
        let bit = bit(signo);
        if signo < FIRST_REAL_TIME && self.set & bit != 0 {
            return;
        }
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(info);
        }
        self.set |= bit;
        self.observers.wake_for(POLLIN);
    }
    /// Takes the first signal of a set: fatal faults first, then by number.
    pub fn take(&mut self, wanted: u64) -> Option<Siginfo> {
        let candidates = self.set & wanted;
        if candidates == 0 {
            return None;
        }
        // Synchronous ones: ILL, TRAP, BUS, FPE, SEGV, SYS.
        let synchronous = candidates & 0x4000_04d8;
        let chosen = if synchronous != 0 { synchronous } else { candidates };
        let signo = chosen.trailing_zeros() as u8 + 1;
        let index = self.queue.iter().position(|info| info.signo == i32::from(signo));
        let info = index.and_then(|index| self.queue.remove(index));
        if !self.queue.iter().any(|info| info.signo == i32::from(signo)) {
            self.set &= !bit(signo);
        }
        Some(info.unwrap_or(Siginfo { signo: signo.into(), ..Siginfo::default() }))
    }
    fn discard(&mut self, set: u64) {
        self.set &= !set;
        self.queue.retain(|info| bit(info.signo as u8) & set == 0);
    }
}

/// The bit of a signal in a set.
#[must_use]
pub const fn bit(signo: u8) -> u64 {
    if signo == 0 || signo > 64 { 0 } else { 1 << (signo - 1) }
}

/// Information for a signal from a process.
#[must_use]
pub fn info_from(signo: u8, code: i32, pid: i32, uid: u32) -> Siginfo {
    let mut info = Siginfo { signo: signo.into(), code, ..Siginfo::default() };
    info.fields[0] = u64::from(pid.cast_unsigned()) | u64::from(uid) << 32;
    info
}

/// Information for a signal from the kernel.
#[must_use]
pub fn info_from_kernel(signo: u8) -> Siginfo {
    Siginfo { signo: signo.into(), code: SI_KERNEL, ..Siginfo::default() }
}

/// Information for a fault.
#[must_use]
pub fn info_of_fault(signo: u8, code: i32, address: u64) -> Siginfo {
    let mut info = Siginfo { signo: signo.into(), code, ..Siginfo::default() };
    info.fields[0] = address;
    info
}

/// Information for SIGCHLD.
#[must_use]
pub fn info_of_child(child: &Process, code: i32, status: i32) -> Siginfo {
    let uid = child.credentials.borrow().users[0];
    let mut info = info_from(SIGCHLD, code, child.pid, uid);
    info.fields[1] = u64::from(status.cast_unsigned());
    info
}

/// What a default action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DefaultAction {
    Ignore,
    Stop,
    Continue,
    End,
}

fn default_action(signo: u8) -> DefaultAction {
    match signo {
        SIGCHLD | SIGURG | SIGWINCH => DefaultAction::Ignore,
        SIGCONT => DefaultAction::Continue,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
        _ => DefaultAction::End,
    }
}

/// Sends a signal to a process.
pub fn send_to_process(process: &Rc<Process>, signo: u8, info: Siginfo) {
    let delegate = process.delegate.borrow().upgrade();
    if let Some(delegate) = delegate.filter(|_| signo != SIGCHLD) {
        return send_to_process(&delegate, signo, info);
    }
    if signo == 0
        || matches!(process.life.get(), Life::Zombie(_))
        || is_spared(process, signo, &info)
        || !prepare(process, signo)
    {
        return;
    }
    let is_wanted = {
        let tasks = process.tasks.borrow();
        let blocked_by_all = tasks.iter().all(|task| task.mask.get() & bit(signo) != 0);
        blocked_by_all || !is_ignored(process, signo)
    };
    if !is_wanted {
        return;
    }
    process.pending.borrow_mut().push(info);
    let tasks = process.tasks.borrow().clone();
    let taker = tasks.iter().find(|task| task.mask.get() & bit(signo) == 0);
    match taker {
        Some(task) => task.notify(),
        // signalfd and sigwait want to know too.
        None => tasks.iter().for_each(|task| task.notify()),
    }
}

/// Sends a signal to one task.
pub fn send_to_task(task: &Rc<Task>, signo: u8, info: Siginfo) {
    if signo == 0 || is_spared(&task.process, signo, &info) || !prepare(&task.process, signo) {
        return;
    }
    if is_ignored(&task.process, signo) && task.mask.get() & bit(signo) == 0 {
        return;
    }
    task.pending.borrow_mut().push(info);
    task.notify();
}

/// Sends a signal that a task has caused itself by a fault: it cannot be blocked or ignored.
pub fn force(task: &Rc<Task>, info: Siginfo) {
    let signo = info.signo as u8;
    let blocked = task.mask.get() & bit(signo) != 0;
    let action = task.process.actions.borrow().get(signo);
    if blocked || action.handler == IGNORE {
        if let Some(place) =
            task.process.actions.borrow().0.borrow_mut().get_mut(usize::from(signo) - 1)
        {
            place.handler = DEFAULT;
        }
        task.mask.set(task.mask.get() & !bit(signo));
    }
    task.pending.borrow_mut().push(info);
    task.has_work.set(true);
}

/// Process 1 gets only signals that it handles, but for a kill or stop from outside (pid_namespaces(7)).
fn is_spared(process: &Process, signo: u8, info: &Siginfo) -> bool {
    let is_forced = (signo == SIGKILL || signo == SIGSTOP) && info.code == SI_KERNEL;
    process.pid == 1 && !is_forced && process.actions.borrow().get(signo).handler == DEFAULT
}

/// What a stop or continue signal does at once; false if the signal has no further effect. Process 1 gets only what it handles.
fn prepare(process: &Rc<Process>, signo: u8) -> bool {
    match signo {
        SIGCONT => {
            discard(process, bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU));
            if let Life::Stopped(_) = process.life.get() {
                process.life.set(Life::Running);
                process.report.set(Some(0xffff));
                process.notify_all();
            }
        }
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => discard(process, bit(SIGCONT)),
        SIGKILL => {
            if let Life::Stopped(_) = process.life.get() {
                process.life.set(Life::Running);
                process.notify_all();
            }
        }
        _ => {}
    }
    true
}

fn discard(process: &Process, set: u64) {
    process.pending.borrow_mut().discard(set);
    for task in &*process.tasks.borrow() {
        task.pending.borrow_mut().discard(set);
    }
}

fn is_ignored(process: &Process, signo: u8) -> bool {
    let handler = process.actions.borrow().get(signo).handler;
    let is_default = handler == DEFAULT;
    handler == IGNORE || (is_default && default_action(signo) == DefaultAction::Ignore)
}

/// Signals that a task would take now.
#[must_use]
pub fn deliverable(task: &Task) -> u64 {
    (task.pending.borrow().set() | task.process.pending.borrow().set()) & !task.mask.get()
}

/// Takes a pending signal of a set.
#[must_use]
pub fn take(task: &Task, set: u64) -> Option<Siginfo> {
    let own = task.pending.borrow_mut().take(set);
    own.or_else(|| task.process.pending.borrow_mut().take(set))
}

/// How an interrupted system call ends.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// Number of the call.
    pub number: u64,
    /// Whether it begins anew after a handler with SA_RESTART.
    pub restarts: bool,
}

/// Delivers pending signals to a task that is about to run its guest. `interrupted` is a call that a signal has cut short.
pub fn deliver(system: &System, task: &Rc<Task>, interrupted: Option<Interrupted>) {
    let mut interrupted = interrupted;
    loop {
        if task.is_ending.get() || matches!(task.process.life.get(), Life::Stopped(_)) {
            break;
        }
        let Some(info) = take(task, !task.mask.get()) else { break };
        let signo = info.signo as u8;
        let action = task.process.actions.borrow().get(signo);
        if action.handler == IGNORE {
            continue;
        }
        if action.handler == DEFAULT {
            act_by_default(system, task, signo);
            continue;
        }
        if let Some(call) = interrupted.take() {
            if call.restarts && action.flags & SA_RESTART != 0 {
                restart(task, call.number);
            } else {
                task.state.set_rax(Errno::EINTR.result());
                end_call(system, task);
            }
        }
        if run_handler(task, &info, &action).is_err() {
            // The stack is not there.
            let fault = info_from_kernel(SIGSEGV);
            if signo == SIGSEGV {
                act_by_default(system, task, SIGSEGV);
            } else {
                force(task, fault);
            }
        }
    }
    if let Some(call) = interrupted {
        // No handler ran: as if nothing had happened.
        restart(task, call.number);
    }
}

/// Lets the system call instruction run again.
fn restart(task: &Task, number: u64) {
    task.state.set_rax(number);
    task.state.set_rip(task.state.rip().wrapping_sub(2));
    task.state.set_rcx(task.state.rip());
}

/// A call is over.
pub fn end_call(system: &System, task: &Task) {
    system.futexes.forget(task);
    task.call.set(super::Call::default());
    let opening = task.opening.take();
    drop(opening);
}

fn act_by_default(system: &System, task: &Rc<Task>, signo: u8) {
    let process = &task.process;
    match default_action(signo) {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Stop => {
            let is_orphaned = signo != SIGSTOP && is_orphaned(system, process);
            if !is_orphaned {
                stop(system, process, signo);
            }
        }
        DefaultAction::End => {
            super::exit::exit_process(process, i32::from(signo));
        }
    }
}

/// Whether nobody is there to continue a group.
fn is_orphaned(system: &System, process: &Process) -> bool {
    !system.processes.group(process.group.get()).iter().any(|member| {
        let parent = member.parent.get();
        system.processes.get(parent).is_some_and(|parent| {
            parent.session.get() == member.session.get() && parent.group.get() != member.group.get()
        })
    })
}

/// Stops a process and tells its parent.
fn stop(system: &System, process: &Rc<Process>, signo: u8) {
    process.life.set(Life::Stopped(signo));
    process.report.set(Some(0x7f | i32::from(signo) << 8));
    process.notify_all();
    tell_parent(system, process, CLD_STOPPED, signo.into());
}

/// A continued process tells its parent.
pub fn tell_continued(system: &System, process: &Rc<Process>) {
    tell_parent(system, process, CLD_CONTINUED, SIGCONT.into());
}

fn tell_parent(system: &System, process: &Rc<Process>, code: i32, status: i32) {
    if let Some(parent) = system.processes.get(process.parent.get()) {
        let action = parent.actions.borrow().get(SIGCHLD);
        if action.flags & crate::linux::SA_NOCLDSTOP == 0 {
            send_to_process(&parent, SIGCHLD, info_of_child(process, code, status));
        }
        parent.queue.wake();
    }
}

/// A POSIX timer.
#[derive(Debug)]
pub struct PosixTimer {
    /// Clock.
    pub clock: u64,
    /// Signal, 0 for none.
    pub signo: u8,
    /// The task that gets it; 0 for the process.
    pub tid: i32,
    /// `sigev_value`.
    pub value: u64,
    /// Number.
    pub id: i32,
    /// Next expiration (TSC, or CPU time of the process; 0 never), and interval in ticks.
    pub next: Cell<(u64, u64)>,
    /// Expirations that were not delivered.
    pub overrun: Cell<u64>,
}
