//! Processes and their threads (tasks).
//!
//! A task is a kernel thread that runs a guest: [`run`] is its loop. Processes hold what their tasks share.
//!
//! ```text
//! Processes -> Process (credentials, signals, children) -> Task (registers, files, mask)
//! ```

pub mod credentials;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod frame;
pub mod futex;
mod layout;
pub mod run;
pub mod shortage;
pub mod signal;

use crate::{
    file::{FileTable, Node, terminal::Terminal, uses::Part},
    linux::{
        Errno, RLIM_INFINITY, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK, RLIMITS,
        layouts::{Rlimit, Sigaltstack},
    },
    machine::GuestState,
    memory::Memory,
    wait::WaitQueue,
};
use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::{Cell, RefCell};
use credentials::Credentials;
use signal::{Actions, Pending};

/// Largest process number.
const MAX_PID: i32 = 1 << 22;

/// A process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// A signal has stopped it.
    Stopped(u8),
    /// It has ended with a wait status, and nobody has asked for it yet.
    Zombie(i32),
}

/// What a process's directory context is.
#[derive(Debug)]
pub struct Place {
    /// Root directory.
    pub root: RefCell<Rc<Node>>,
    /// Working directory.
    pub working: RefCell<Rc<Node>>,
    /// File mode creation mask.
    pub mask: Cell<u32>,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Number of its parent, 0 for those the daemon started.
    pub parent: Cell<i32>,
    /// Process group.
    pub group: Cell<i32>,
    /// Session.
    pub session: Cell<i32>,
    /// Memory.
    pub memory: RefCell<Rc<Memory>>,
    /// Its tasks that live.
    pub tasks: RefCell<Vec<Rc<Task>>>,
    /// The name it had when its last task ended.
    pub last_name: Cell<[u8; 16]>,
    /// What it does on signals.
    pub actions: RefCell<Rc<Actions>>,
    /// Signals for whichever task takes them.
    pub pending: RefCell<Pending>,
    /// Who it is.
    pub credentials: RefCell<Rc<Credentials>>,
    /// Resource limits.
    pub limits: RefCell<[Rlimit; RLIMITS]>,
    /// Whether it lives.
    pub life: Cell<Life>,
    /// The signal its parent gets at its end.
    pub exit_signal: Cell<u8>,
    /// Status of an exit of the whole process that is under way.
    pub exiting: Cell<Option<i32>>,
    /// A stop or continuation that the parent has not been told by wait.
    pub report: Cell<Option<i32>>,
    /// Its parent waits here for children; others for its end.
    pub queue: WaitQueue,
    /// Those who wait for it to end (pidfd) or to exec (vfork).
    pub end_queue: WaitQueue,
    /// The controlling terminal.
    pub terminal: RefCell<Option<Rc<Terminal>>>,
    /// Program and its arguments.
    pub program: RefCell<Program>,
    /// When it began (TSC).
    pub started: u64,
    /// The daemon's number for it.
    pub daemon_number: Cell<Option<u32>>,
    /// The parent must wait until it has its own memory.
    pub borrows_memory: Cell<bool>,
    /// ITIMER_REAL: when it expires next (TSC, 0 never), and its interval.
    pub alarm: Cell<(u64, u64)>,
    /// ITIMER_VIRTUAL and ITIMER_PROF: the CPU time at which it expires next (0 never), and its interval, in ticks.
    pub cpu_alarms: [Cell<(u64, u64)>; 2],
    /// When its tasks were asked how long they have computed (TSC, 0: they were not).
    pub time_asked: Cell<u64>,
    /// POSIX timers.
    pub timers: RefCell<BTreeMap<i32, Rc<signal::PosixTimer>>>,
    /// CPU time of children that were waited for, in ticks.
    pub children_time: Cell<u64>,
    /// CPU time of tasks that have ended, in ticks.
    pub ended_time: Cell<u64>,
    /// Whether it has called execve since it was forked.
    pub has_executed: Cell<bool>,
    /// prctl(PR_SET_CHILD_SUBREAPER).
    pub is_subreaper: Cell<bool>,
    /// prctl(PR_SET_PDEATHSIG).
    pub death_signal: Cell<u8>,
    /// prctl(PR_SET_DUMPABLE).
    pub is_dumpable: Cell<bool>,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: Cell<bool>,
    /// Nice value.
    pub nice: Cell<i32>,
    /// What was written to /proc/PID/oom_score_adj.
    pub oom_adjustment: Cell<i32>,
    /// What personality(2) was told.
    pub execution_domain: Cell<u32>,
    /// Killed for lack of memory.
    pub out_of_memory: Cell<bool>,
    /// Who gets its signals: an init of our own passes them on.
    pub delegate: RefCell<Weak<Process>>,
}

/// What a process runs.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The file.
    pub file: Option<Part>,
    /// Its path.
    pub path: Vec<u8>,
    /// Arguments.
    pub arguments: Vec<Vec<u8>>,
}

/// The system call a task is in, over its waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Bytes done before the wait.
    pub progress: usize,
    /// When the call began (TSC), 0 outside a call that has waited.
    pub begun: u64,
    /// Something the call has to remember over a wait.
    pub memo: u64,
}

/// A thread of a process.
#[derive(Debug)]
pub struct Task {
    /// Its number.
    pub tid: i32,
    /// Its process.
    pub process: Rc<Process>,
    /// The kernel thread.
    pub thread: rt::Thread,
    /// The guest's registers.
    pub state: GuestState,
    /// Open files.
    pub files: RefCell<Rc<RefCell<FileTable>>>,
    /// Directories.
    pub place: RefCell<Rc<Place>>,
    /// Blocked signals.
    pub mask: Cell<u64>,
    /// The mask to restore after a call that has changed it for its own length.
    pub saved_mask: Cell<Option<u64>>,
    /// Signals for this task.
    pub pending: RefCell<Pending>,
    /// Stack for handlers.
    pub alternate_stack: Cell<Sigaltstack>,
    /// A word that is cleared, and a futex that is woken, at the task's end.
    pub clear_tid: Cell<u64>,
    /// Head of the list of robust futexes.
    pub robust_list: Cell<u64>,
    /// The call it is in.
    pub call: Cell<Call>,
    /// A FIFO that is being opened, while it waits for the other side.
    pub opening: RefCell<Option<Rc<crate::file::OpenFile>>>,
    /// It must end.
    pub is_ending: Cell<bool>,
    /// It must look at signals before it goes on.
    pub has_work: Cell<bool>,
    /// Where a futex wait of its stands.
    pub futex: Cell<futex::Waiting>,
    /// Name (prctl(PR_SET_NAME)).
    pub name: Cell<[u8; 16]>,
    /// A registered restartable sequence.
    pub rseq: Cell<(u64, u32)>,
}

/// All processes and tasks.
#[derive(Debug, Default)]
pub struct Processes {
    map: RefCell<BTreeMap<i32, Rc<Process>>>,
    tasks: RefCell<BTreeMap<i32, Rc<Task>>>,
    last: Cell<i32>,
}

impl Processes {
    /// A process by number.
    #[must_use]
    pub fn get(&self, pid: i32) -> Option<Rc<Process>> {
        self.map.borrow().get(&pid).cloned()
    }
    /// A task by number.
    #[must_use]
    pub fn task(&self, tid: i32) -> Option<Rc<Task>> {
        self.tasks.borrow().get(&tid).cloned()
    }
    /// All processes, by number.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<Process>> {
        self.map.borrow().values().cloned().collect()
    }
    /// Numbers of all processes.
    #[must_use]
    pub fn numbers(&self) -> Vec<i32> {
        self.map.borrow().keys().copied().collect()
    }
    /// Number of tasks.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }
    /// Tasks, and processes that have none: the dead that nobody has waited for, and an init of our own.
    #[must_use]
    pub fn population(&self) -> usize {
        let processes = self.map.borrow();
        let without = processes.values().filter(|process| process.tasks.borrow().is_empty());
        self.task_count() + without.count()
    }
    /// Whether there is no process.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.borrow().is_empty()
    }
    /// The number given last.
    #[must_use]
    pub fn last(&self) -> i32 {
        self.last.get()
    }
    /// Children of a process.
    #[must_use]
    pub fn children(&self, pid: i32) -> Vec<Rc<Process>> {
        self.map
            .borrow()
            .values()
            .filter(|process| process.parent.get() == pid && process.pid != pid)
            .cloned()
            .collect()
    }
    /// Members of a group.
    #[must_use]
    pub fn group(&self, group: i32) -> Vec<Rc<Process>> {
        self.map.borrow().values().filter(|process| process.group.get() == group).cloned().collect()
    }
    /// A free number.
    ///
    /// # Errors
    /// `EAGAIN`.
    pub fn take_number(&self) -> Result<i32, Errno> {
        let mut number = self.last.get();
        for _ in 0..MAX_PID {
            number = if number >= MAX_PID { 2 } else { number + 1 };
            let is_taken = self.tasks.borrow().contains_key(&number)
                || self.map.borrow().contains_key(&number)
                || self.map.borrow().values().any(|process| {
                    process.group.get() == number || process.session.get() == number
                });
            if !is_taken {
                self.last.set(number);
                return Ok(number);
            }
        }
        Err(Errno::EAGAIN)
    }
    /// Adds a process.
    pub fn insert(&self, process: Rc<Process>) {
        self.map.borrow_mut().insert(process.pid, process);
    }
    /// Adds a task.
    pub fn insert_task(&self, task: Rc<Task>) {
        self.tasks.borrow_mut().insert(task.tid, task);
    }
    /// Forgets a process.
    pub fn remove(&self, pid: i32) {
        self.map.borrow_mut().remove(&pid);
    }
    /// Forgets a task.
    pub fn remove_task(&self, tid: i32) {
        self.tasks.borrow_mut().remove(&tid);
    }
}

/// The limits of a first process.
#[must_use]
pub fn default_limits() -> [Rlimit; RLIMITS] {
    let mut limits = [Rlimit { soft: RLIM_INFINITY, hard: RLIM_INFINITY }; RLIMITS];
    limits[RLIMIT_STACK].soft = 8 << 20;
    limits[RLIMIT_CORE].soft = 0;
    // As containers of today's Docker: programs that walk all numbers up to the soft limit are many.
    limits[RLIMIT_NOFILE] = Rlimit { soft: 1024, hard: 1 << 19 };
    // Signals, message queues, nice and real-time priority.
    limits[11] = Rlimit { soft: 63_000, hard: 63_000 };
    limits[12] = Rlimit { soft: 819_200, hard: 819_200 };
    limits[13] = Rlimit { soft: 0, hard: 0 };
    limits[14] = Rlimit { soft: 0, hard: 0 };
    limits
}

impl Process {
    /// Wakes or interrupts every task, so that it looks at what has changed.
    pub fn notify_all(&self) {
        for task in &*self.tasks.borrow() {
            task.notify();
        }
    }
    /// CPU time of all its tasks, in ticks, and of those what was in the guest.
    #[must_use]
    pub fn cpu_time(&self) -> (u64, u64) {
        let mut sum = (self.ended_time.get(), self.ended_time.get() / 2);
        for task in &*self.tasks.borrow() {
            if let Ok((used, _, guest)) = task.thread.stat() {
                sum = (sum.0 + used, sum.1 + guest);
            }
        }
        sum
    }
    /// A soft limit.
    #[must_use]
    pub fn limit(&self, index: usize) -> u64 {
        self.limits.borrow().get(index).map_or(RLIM_INFINITY, |limit| limit.soft)
    }
}

impl Task {
    /// Makes the task look at signals: it is woken from a wait, or taken out of the guest. One that notifies itself looks before it does either.
    pub fn notify(&self) {
        self.has_work.set(true);
        if self.thread.0 != rt::thread::own_slot() {
            let _ = self.thread.kick();
        }
    }
    /// The table of files.
    #[must_use]
    pub fn files(&self) -> Rc<RefCell<FileTable>> {
        self.files.borrow().clone()
    }
    /// The directories.
    #[must_use]
    pub fn place(&self) -> Rc<Place> {
        self.place.borrow().clone()
    }
    /// Who it is.
    #[must_use]
    pub fn credentials(&self) -> Rc<Credentials> {
        self.process.credentials.borrow().clone()
    }
    /// The waiter that queues know it by.
    #[must_use]
    pub const fn waiter(&self) -> crate::wait::Waiter {
        self.thread.0
    }
    /// When the current call began, over its waits.
    pub fn call_begun(&self) -> u64 {
        let mut call = self.call.get();
        if call.begun == 0 {
            call.begun = rt::clock::now();
            self.call.set(call);
        }
        call.begun
    }
}
