//! /proc and /sys as far as programs read them (proc(5)): what is true of the compartment, its limits instead of the machine's.

mod entries;
mod machine;
mod mounts;
mod process;

use super::node::{Kind, Meta, Node};
use crate::{
    linux::{Errno, S_IFDIR, S_IFLNK, S_IFREG},
    system::{System, time},
    task::{Process, Processes, Task},
};
use alloc::{format, rc::Rc, string::String, vec::Vec};
use entries::{Entry, NET, PROCESS_FILES, ROOT, SYS};
pub use machine::cpu_count;
use machine::machine_text;
pub use process::state_letter;
use process::{process_text, write_process};

/// Number of the file system.
pub const DEVICE: u64 = 0x31;

/// A place in the tree.
#[derive(Clone, Debug)]
pub struct ProcNode {
    place: Place,
    processes: Rc<Processes>,
}

#[derive(Clone, Debug)]
enum Place {
    /// A directory of fixed entries.
    Fixed(&'static [Entry], &'static str),
    /// /proc/PID, and what a thread has there by its own number.
    Process(i32),
    /// /proc/PID/fd (true), or fdinfo.
    Descriptors(i32, bool),
    /// /proc/PID/task.
    Tasks(i32),
    /// A file or link of a process.
    Of(i32, &'static str),
    /// A descriptor's link.
    Descriptor(i32, i32),
    /// A file by its text's name.
    Text(&'static str),
    /// A link by its target.
    Link(&'static str),
}

/// The root of /proc.
#[must_use]
pub fn proc_root(processes: &Rc<Processes>) -> Rc<Node> {
    node(Place::Fixed(ROOT, ""), processes)
}

/// The root of /sys.
#[must_use]
pub fn sys_root(processes: &Rc<Processes>) -> Rc<Node> {
    node(Place::Fixed(SYS, ""), processes)
}

fn node(place: Place, processes: &Rc<Processes>) -> Rc<Node> {
    let (mode, id) = match &place {
        Place::Fixed(entries, name) => {
            (S_IFDIR | 0o555, entries.as_ptr().addr() as u64 ^ name.as_ptr().addr() as u64)
        }
        Place::Process(pid) => (S_IFDIR | 0o555, 0x1_0000 + (*pid as u64) * 64),
        Place::Descriptors(pid, is_fd) => {
            (S_IFDIR | 0o500, 0x1_0000 + (*pid as u64) * 64 + 1 + u64::from(*is_fd))
        }
        Place::Tasks(pid) => (S_IFDIR | 0o555, 0x1_0000 + (*pid as u64) * 64 + 3),
        Place::Of(pid, name) if is_link(name) => {
            (S_IFLNK | 0o777, 0x1_0000 + (*pid as u64) * 64 + 8 + name.len() as u64)
        }
        Place::Of(pid, name) => {
            let mode = if matches!(*name, "comm" | "oom_score_adj") { 0o644 } else { 0o444 };
            (S_IFREG | mode, 0x1_0000 + (*pid as u64) * 64 + 16 + name.len() as u64)
        }
        Place::Descriptor(pid, fd) => {
            (S_IFLNK | 0o700, 0x100_0000 + (*pid as u64) * 4096 + *fd as u64)
        }
        Place::Text(name) => (S_IFREG | 0o444, name.as_ptr().addr() as u64),
        Place::Link(name) => (S_IFLNK | 0o777, 0x200_0000 + name.as_ptr().addr() as u64),
    };
    let now = time::realtime();
    let owner = match &place {
        Place::Process(pid) | Place::Of(pid, _) | Place::Descriptors(pid, _) => {
            of_number(processes, *pid).map_or((0, 0), |process| {
                (process.credentials.borrow().users[1], process.credentials.borrow().groups[1])
            })
        }
        _ => (0, 0),
    };
    let nlink = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
    let meta = Meta {
        mode,
        uid: owner.0,
        gid: owner.1,
        nlink,
        rdev: 0,
        accessed: now,
        modified: now,
        changed: now,
    };
    Node::with_meta(
        Kind::Proc(ProcNode { place, processes: processes.clone() }),
        meta,
        id & 0xffff_ffff,
        DEVICE,
    )
}

fn is_link(name: &str) -> bool {
    matches!(name, "cwd" | "exe" | "root")
}

/// The process of a number, which may be a thread's.
fn of_number(processes: &Processes, number: i32) -> Option<Rc<Process>> {
    processes.get(number).or_else(|| processes.task(number).map(|task| task.process.clone()))
}

/// The numbers of the calling thread's process and of itself.
fn own_numbers(processes: &Processes) -> (i32, i32) {
    let slot = rt::thread::own_slot();
    let own = |process: &Rc<Process>| {
        let tasks = process.tasks.borrow();
        let task = tasks.iter().find(|task| task.thread.slot() == slot)?;
        Some((process.pid, task.tid))
    };
    processes.all().iter().find_map(own).unwrap_or((1, 1))
}

impl ProcNode {
    fn live(&self, number: i32) -> Result<Rc<Process>, Errno> {
        of_number(&self.processes, number).ok_or(Errno::ENOENT)
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`.
    pub fn lookup(&self, _own: &Rc<Node>, name: &[u8]) -> Result<Rc<Node>, Errno> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let place = match &self.place {
            Place::Fixed(entries, _) => {
                if core::ptr::eq(*entries, ROOT)
                    && let Ok(pid) = text.parse::<i32>()
                {
                    self.live(pid).map(|_| Place::Process(pid))?
                } else {
                    match entries.iter().find(|entry| entry.name() == text).ok_or(Errno::ENOENT)? {
                        Entry::Directory(name, entries) => Place::Fixed(entries, name),
                        Entry::Text(name) => Place::Text(name),
                        Entry::Link(name, "") => Place::Link(name),
                        Entry::Link(_, target) => Place::Link(target),
                    }
                }
            }
            Place::Process(pid) => {
                self.live(*pid)?;
                match text {
                    "fd" => Place::Descriptors(*pid, true),
                    "fdinfo" => Place::Descriptors(*pid, false),
                    "task" => Place::Tasks(*pid),
                    "net" => Place::Fixed(NET, "net"),
                    _ => Place::Of(
                        *pid,
                        PROCESS_FILES.iter().find(|known| **known == text).ok_or(Errno::ENOENT)?,
                    ),
                }
            }
            Place::Descriptors(pid, is_fd) => {
                let fd: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
                self.file(*pid, fd)?;
                if *is_fd { Place::Descriptor(*pid, fd) } else { Place::Of(*pid, "fdinfo") }
            }
            Place::Tasks(pid) => {
                let tid: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
                let process = self.live(*pid)?;
                let known = process.tasks.borrow().iter().any(|task| task.tid == tid);
                if known { Place::Process(tid) } else { return Err(Errno::ENOENT) }
            }
            _ => return Err(Errno::ENOTDIR),
        };
        Ok(node(place, &self.processes))
    }

    fn file(&self, pid: i32, fd: i32) -> Result<Rc<super::OpenFile>, Errno> {
        let process = self.live(pid)?;
        let tasks = process.tasks.borrow();
        let files = tasks.first().ok_or(Errno::ENOENT)?.files();
        let file = files.borrow().get(fd).cloned().map_err(|_| Errno::ENOENT)?;
        Ok(file)
    }

    /// Calls a function with the names after a name, in order.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT`.
    pub fn list(
        &self,
        own: &Rc<Node>,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &Rc<Node>) -> bool,
    ) -> Result<(), Errno> {
        let mut names: Vec<String> = match &self.place {
            Place::Fixed(entries, _) => {
                let mut names: Vec<String> =
                    entries.iter().map(|entry| entry.name().into()).collect();
                if core::ptr::eq(*entries, ROOT) {
                    names.extend(self.processes.numbers().iter().map(|pid| format!("{pid}")));
                }
                names
            }
            Place::Process(pid) => {
                self.live(*pid)?;
                PROCESS_FILES.iter().map(|name| (*name).into()).collect()
            }
            Place::Descriptors(pid, _) => {
                let process = self.live(*pid)?;
                let tasks = process.tasks.borrow();
                let files = tasks.first().ok_or(Errno::ENOENT)?.files();
                let files = files.borrow();
                files.descriptors().map(|(fd, _)| format!("{fd}")).collect()
            }
            Place::Tasks(pid) => {
                self.live(*pid)?.tasks.borrow().iter().map(|task| format!("{}", task.tid)).collect()
            }
            _ => return Err(Errno::ENOTDIR),
        };
        names.sort_unstable();
        for name in names {
            if after.is_some_and(|after| name.as_bytes() <= after) {
                continue;
            }
            if let Ok(found) = self.lookup(own, name.as_bytes())
                && !each(name.as_bytes(), &found)
            {
                break;
            }
        }
        Ok(())
    }

    /// The directory above.
    #[must_use]
    pub fn parent(&self, _own: &Rc<Node>) -> Option<Rc<Node>> {
        let above = match &self.place {
            Place::Descriptors(pid, _) | Place::Tasks(pid) => Place::Process(*pid),
            Place::Process(_) => Place::Fixed(ROOT, ""),
            _ => return None,
        };
        Some(node(above, &self.processes))
    }

    /// Its name in its parent.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match &self.place {
            Place::Fixed(_, name) => name.as_bytes().to_vec(),
            Place::Process(pid) => format!("{pid}").into_bytes(),
            Place::Descriptors(_, true) => b"fd".to_vec(),
            Place::Descriptors(_, false) => b"fdinfo".to_vec(),
            Place::Tasks(_) => b"task".to_vec(),
            _ => Vec::new(),
        }
    }

    /// The node that a magic link leads to.
    #[must_use]
    pub fn link_node(&self) -> Option<Rc<Node>> {
        match &self.place {
            Place::Descriptor(pid, fd) => self.file(*pid, *fd).ok()?.node.clone(),
            Place::Of(pid, "exe") => {
                self.live(*pid).ok()?.program.borrow().file.as_ref().map(|file| file.node().clone())
            }
            Place::Of(pid, name @ ("cwd" | "root")) => {
                let process = self.live(*pid).ok()?;
                let place = process.tasks.borrow().first()?.place();
                let found = if *name == "cwd" {
                    place.working.borrow().clone()
                } else {
                    place.root.borrow().clone()
                };
                Some(found)
            }
            _ => None,
        }
    }

    /// The process whose directory this is.
    #[must_use]
    pub const fn process(&self) -> Option<i32> {
        match self.place {
            Place::Process(pid) => Some(pid),
            _ => None,
        }
    }

    /// What readlink(2) says.
    #[must_use]
    pub fn link_text(&self) -> Option<Vec<u8>> {
        match &self.place {
            Place::Link("self") => Some(format!("{}", own_numbers(&self.processes).0).into_bytes()),
            Place::Link("thread") => {
                let (pid, tid) = own_numbers(&self.processes);
                Some(format!("{pid}/task/{tid}").into_bytes())
            }
            Place::Link(target) => Some(target.as_bytes().to_vec()),
            Place::Descriptor(pid, fd) => {
                let file = self.file(*pid, *fd).ok()?;
                Some(match (&file.object, &file.node) {
                    (super::Object::Terminal(terminal), _) => {
                        format!("/dev/pts/{}", terminal.index).into_bytes()
                    }
                    (_, Some(node)) if node.device == super::node::PIPES => {
                        format!("pipe:[{}]", node.id).into_bytes()
                    }
                    (_, None) if file.path.ends_with(b":") => {
                        [file.path.clone(), format!("[{}]", file.id).into_bytes()].concat()
                    }
                    (_, Some(node)) if node.is_directory() => {
                        self.path_of(*pid, node).unwrap_or_else(|| file.path.clone())
                    }
                    _ => self.absolute(*pid, &file.path),
                })
            }
            Place::Of(pid, "exe") => {
                Some(self.absolute(*pid, &self.live(*pid).ok()?.program.borrow().path))
            }
            Place::Of(pid, "cwd") => self.path_of(*pid, &self.link_node()?),
            Place::Of(_, "root") => Some(b"/".to_vec()),
            _ => None,
        }
    }

    fn path_of(&self, pid: i32, node: &Rc<Node>) -> Option<Vec<u8>> {
        let process = self.live(pid).ok()?;
        let place = process.tasks.borrow().first()?.place();
        let root = place.root.borrow().clone();
        super::path::path_of(node, &root)
    }

    fn absolute(&self, pid: i32, path: &[u8]) -> Vec<u8> {
        if path.first() == Some(&b'/') {
            return path.to_vec();
        }
        let working = self
            .live(pid)
            .ok()
            .and_then(|process| {
                process.tasks.borrow().first().map(|task| task.place().working.borrow().clone())
            })
            .and_then(|node| self.path_of(pid, &node))
            .unwrap_or_default();
        [working.as_slice(), b"/", path].concat()
    }

    /// Whether nothing can be written: files of the whole compartment, which containers have on a read-only mount.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        matches!(self.place, Place::Text(_))
    }

    /// Writes to a file of a process.
    ///
    /// # Errors
    /// `ESRCH` for a process that is gone, `EIO` for what cannot be written, and what the file says of the text.
    pub fn write(&self, text: &[u8], task: &Task) -> Result<(), Errno> {
        match &self.place {
            Place::Of(pid, name) => {
                let process = self.live(*pid).map_err(|_| Errno::ESRCH)?;
                write_process(name, (&*process, *pid), text, task)
            }
            _ => Err(Errno::EIO),
        }
    }

    /// The text of a file, as it is now.
    ///
    /// # Errors
    /// `ENOENT` for a process that is gone.
    pub fn text(&self, system: &System, task: &Rc<Task>) -> Result<Vec<u8>, Errno> {
        match &self.place {
            Place::Text(name) => Ok(machine_text(name, system).into_bytes()),
            Place::Of(pid, name) => {
                let process = self.live(*pid).map_err(|_| Errno::ESRCH)?;
                process_text(name, (&process, *pid), system, task)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}
