//! Everything the tasks of a compartment share.

use crate::{
    file::{Node, lower, terminal::Terminal},
    machine::Shared,
    net::Network,
    session::Session,
    task::{Process, Processes, futex::Futexes, shortage, signal},
};
use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
    string::String,
    vec::Vec,
};
use core::cell::{Cell, RefCell};

/// The shared state.
pub static SYSTEM: Shared<System> = Shared::new();

/// Time as Linux tells it.
pub mod time {
    use crate::linux::layouts::Timespec;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Nanoseconds since 1970 at boot.
    static EPOCH: AtomicU64 = AtomicU64::new(0);

    /// Sets the time of day at boot.
    pub fn set_epoch(nanoseconds: u64) {
        EPOCH.store(nanoseconds, Ordering::Relaxed);
    }
    /// The time of day at boot.
    #[must_use]
    pub fn epoch() -> u64 {
        EPOCH.load(Ordering::Relaxed)
    }
    /// Nanoseconds since 1970.
    #[must_use]
    pub fn now() -> u64 {
        epoch().saturating_add(rt::clock::since_boot())
    }
    /// The time of day.
    #[must_use]
    pub fn realtime() -> (i64, u32) {
        split(now())
    }
    /// Seconds and nanoseconds.
    #[must_use]
    pub const fn split(nanoseconds: u64) -> (i64, u32) {
        ((nanoseconds / 1_000_000_000) as i64, (nanoseconds % 1_000_000_000) as u32)
    }
    /// As a structure.
    #[must_use]
    pub const fn timespec(nanoseconds: u64) -> Timespec {
        Timespec {
            seconds: (nanoseconds / 1_000_000_000) as i64,
            nanoseconds: (nanoseconds % 1_000_000_000) as i64,
        }
    }
}

/// The shared state of a compartment.
#[derive(Debug)]
pub struct System {
    /// Processes and tasks.
    pub processes: Rc<Processes>,
    /// The root of the file system.
    pub root: Rc<Node>,
    /// Host name.
    pub hostname: RefCell<Vec<u8>>,
    /// Domain name.
    pub domainname: RefCell<Vec<u8>>,
    /// What sockets share.
    pub network: Rc<Network>,
    /// Pseudo-terminals by number.
    pub terminals: Rc<Terminals>,
    /// Futex waiters.
    pub futexes: Futexes,
    /// What is known of memory that is used up.
    pub shortage: shortage::Shortage,
    /// The daemon's side.
    pub session: Session,
    /// Unsupported features that were tried.
    pub gaps: BTreeMap<&'static str, u64>,
    /// What the first process may use, for /proc.
    pub budget: contract::compartments::Budget,
    /// What is mounted beside what every container has.
    pub mounts: Vec<contract::compartment::Mount>,
    /// The thread that waits for timers.
    pub timer_thread: Cell<Option<rt::Thread>>,
    /// When it will look next.
    pub timer_next: Cell<u64>,
    /// The page that programs find their clocks in.
    pub vdso: crate::vdso::Vdso,
    /// Lines for the machine's log.
    pub log: Vec<String>,
}

/// A pseudo-terminal and its node in /dev/pts.
type Named = (Weak<Terminal>, Rc<Node>);

/// Pseudo-terminals.
#[derive(Debug, Default)]
pub struct Terminals {
    map: RefCell<BTreeMap<u32, Named>>,
}

impl Terminals {
    /// A new pseudo-terminal of a user, with the lowest free number; see [`Terminal::new`] for `is_outside`.
    pub fn create(&self, uid: u32, is_outside: bool) -> Rc<Terminal> {
        let mut map = self.map.borrow_mut();
        map.retain(|_, (terminal, _)| terminal.strong_count() > 0);
        let number = (0..).find(|number| !map.contains_key(number)).unwrap_or(0);
        let terminal = Rc::new(Terminal::new(number, is_outside));
        map.insert(number, (Rc::downgrade(&terminal), lower::terminal(number, uid)));
        terminal
    }
    /// A pseudo-terminal by number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Rc<Terminal>> {
        self.map.borrow().get(&number).and_then(|(terminal, _)| terminal.upgrade())
    }
    /// A pseudo-terminal's node.
    #[must_use]
    pub fn node(&self, number: u32) -> Option<Rc<Node>> {
        self.map.borrow().get(&number).map(|(_, node)| node.clone())
    }
    /// All that live.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<Terminal>> {
        self.map.borrow().values().filter_map(|(terminal, _)| terminal.upgrade()).collect()
    }
    /// Numbers and nodes of those whose driving side lives.
    #[must_use]
    pub fn nodes(&self) -> Vec<(u32, Rc<Node>)> {
        let map = self.map.borrow();
        let live = map.iter().filter(|(_, (terminal, _))| {
            terminal.upgrade().is_some_and(|terminal| !terminal.is_hung_up())
        });
        live.map(|(number, (_, node))| (*number, node.clone())).collect()
    }
}

impl System {
    /// Sends a signal to every process of a group.
    pub fn signal_group(&self, group: i32, signo: u8, info: crate::linux::layouts::Siginfo) {
        for process in self.processes.group(group) {
            signal::send_to_process(&process, signo, info);
        }
    }
    /// Process 1.
    #[must_use]
    pub fn init(&self) -> Option<Rc<Process>> {
        self.processes.get(1)
    }
}
