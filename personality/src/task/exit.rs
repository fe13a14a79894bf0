//! The end of tasks and processes, and waiting for it (_exit(2), wait(2)).

use super::{Life, Process, Task, signal};
use crate::{
    linux::{
        CLD_EXITED, CLD_KILLED, Errno, SA_NOCLDWAIT, SIGCHLD, SIGCONT, SIGHUP, WCONTINUED, WEXITED,
        WNOHANG, WNOWAIT, WUNTRACED,
    },
    machine::{attached, guest},
    memory::{self, Memory},
    system::System,
    wait::{Stop, WAIT},
};
use alloc::rc::Rc;

/// Begins the end of a whole process with a wait status.
pub fn exit_process(process: &Rc<Process>, status: i32) {
    if process.exiting.get().is_none() {
        process.exiting.set(Some(status));
    }
    if let Life::Stopped(_) = process.life.get() {
        process.life.set(Life::Running);
    }
    for task in &*process.tasks.borrow() {
        task.is_ending.set(true);
        task.notify();
    }
}

/// A task ends: what it leaves is cleaned up. Called by its own thread, which ends afterwards.
pub fn finish_task(system: &System, task: &Rc<Task>) {
    system.futexes.forget(task);
    system.futexes.release_robust(&system.processes, task);
    let clear = task.clear_tid.replace(0);
    if clear != 0 && guest::write(clear, &0_u32).is_ok() {
        system.futexes.wake(&system.processes, super::futex::key(task, clear), 1, u32::MAX);
    }
    attached::forget();
    let process = &task.process;
    if let Ok((used, ..)) = task.thread.stat() {
        process.ended_time.set(process.ended_time.get() + used);
    }
    system.processes.remove_task(task.tid);
    process.last_name.set(task.name.get());
    process.tasks.borrow_mut().retain(|other| other.tid != task.tid);
    let files = task.files.replace(Rc::default());
    if Rc::strong_count(&files) == 1 {
        for (_, file) in files.borrow().descriptors() {
            if let Some(node) = &file.node {
                node.locks.release(crate::file::locks::Owner::Process(process.pid), 0, u64::MAX);
            }
        }
    }
    drop(files);
    if process.tasks.borrow().is_empty() {
        finish_process(system, process);
    } else if process.exiting.get().is_none() {
        // execve of another task waits until it is alone.
        process.end_queue.wake();
    }
    crate::session::mark_dirty();
}

/// The last task of a process has ended.
fn finish_process(system: &System, process: &Rc<Process>) {
    let status = process.exiting.get().unwrap_or(0);
    process.life.set(Life::Zombie(status));
    process.timers.borrow_mut().clear();
    process.alarm.set((0, 0));
    process.cpu_alarms.iter().for_each(|alarm| alarm.set((0, 0)));
    // The memory goes now, not when somebody waits; that of the very last goes with the compartment, or the session sees to it.
    let is_last = process.daemon_number.get() == Some(0) && system.processes.task_count() == 0;
    if !is_last {
        drop_memory(process);
    }
    hang_up(system, process);
    adopt_children(system, process);
    process.end_queue.wake();
    if process.pid == 1 || process.daemon_number.get() == Some(0) {
        for other in system.processes.all() {
            if other.pid != process.pid {
                exit_process(&other, crate::linux::SIGKILL.into());
            }
        }
    }
    let Some(parent) = system.processes.get(process.parent.get()) else {
        if process.daemon_number.get().is_none() {
            system.processes.remove(process.pid);
        }
        return;
    };
    let is_unwanted = ignores_children(&parent);
    let signo = process.exit_signal.get();
    if signo != 0 {
        let (code, value) = if status & 0x7f == 0 {
            (CLD_EXITED, status >> 8 & 0xff)
        } else {
            (CLD_KILLED, status & 0x7f)
        };
        let mut info = signal::info_of_child(process, code, value);
        info.signo = signo.into();
        signal::send_to_process(&parent, signo, info);
    }
    if is_unwanted && signo == SIGCHLD {
        system.processes.remove(process.pid);
    }
    parent.queue.wake();
}

/// Gives a process's memory back, and its program, which may be written again.
pub fn drop_memory(process: &Process) {
    process.program.borrow_mut().file = None;
    memory::leave(process.memory.replace(Rc::new(Memory::default())));
}

/// Whether a process's children vanish without being waited for.
fn ignores_children(parent: &Process) -> bool {
    let action = parent.actions.borrow().get(SIGCHLD);
    action.handler == signal::IGNORE || action.flags & SA_NOCLDWAIT != 0
}

/// The end of a session's leader: its terminal's foreground group is hung up.
fn hang_up(system: &System, process: &Process) {
    let terminal = process.terminal.borrow().clone();
    if let Some(terminal) = terminal
        && process.session.get() == process.pid
        && terminal.session.get() == process.pid
    {
        let group = terminal.foreground.get();
        if group != 0 {
            system.signal_group(group, SIGHUP, signal::info_from_kernel(SIGHUP));
            system.signal_group(group, SIGCONT, signal::info_from_kernel(SIGCONT));
        }
        terminal.session.set(0);
        terminal.foreground.set(0);
        for member in system.processes.all() {
            if member.session.get() == process.pid {
                *member.terminal.borrow_mut() = None;
            }
        }
    }
}

/// Children get the nearest subreaper, or process 1.
fn adopt_children(system: &System, process: &Process) {
    let mut heir = process.parent.get();
    while let Some(ancestor) = system.processes.get(heir) {
        if ancestor.is_subreaper.get() || ancestor.pid == 1 {
            break;
        }
        heir = ancestor.parent.get();
    }
    if !system.processes.get(heir).is_some_and(|heir| !matches!(heir.life.get(), Life::Zombie(_))) {
        heir = 1;
    }
    for child in system.processes.children(process.pid) {
        child.parent.set(heir);
        let signo = child.death_signal.get();
        if signo != 0 {
            signal::send_to_process(&child, signo, signal::info_from_kernel(signo));
        }
        if let Life::Zombie(_) = child.life.get() {
            match system.processes.get(heir) {
                Some(parent) if heir != process.pid && !ignores_children(&parent) => {
                    signal::send_to_process(
                        &parent,
                        SIGCHLD,
                        signal::info_of_child(&child, CLD_EXITED, 0),
                    );
                    parent.queue.wake();
                }
                _ => system.processes.remove(child.pid),
            }
        }
    }
}

/// Which children are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// One.
    Process(i32),
    /// Members of a group.
    Group(i32),
}

/// What wait(2) found.
#[derive(Clone, Debug)]
pub struct Reaped {
    /// The child.
    pub child: Rc<Process>,
    /// Its wait status.
    pub status: i32,
}

/// Waits for a child; `None` with WNOHANG if none is ready.
///
/// # Errors
/// `ECHILD`, waits.
pub fn wait(
    system: &System,
    task: &Rc<Task>,
    which: Which,
    options: u64,
) -> Result<Option<Reaped>, Stop> {
    let own = &task.process;
    let children = system.processes.children(own.pid);
    let mut any = false;
    for child in children {
        let matches = match which {
            Which::Any => true,
            Which::Process(pid) => child.pid == pid,
            Which::Group(group) => child.group.get() == group,
        };
        if !matches {
            continue;
        }
        any = true;
        if let Life::Zombie(status) = child.life.get()
            && options & WEXITED != 0
        {
            if options & WNOWAIT == 0 {
                let (time, _) = child.cpu_time();
                own.children_time.set(own.children_time.get() + time + child.children_time.get());
                system.processes.remove(child.pid);
            }
            return Ok(Some(Reaped { child, status }));
        }
        if let Some(status) = child.report.get() {
            let is_wanted =
                if status == 0xffff { options & WCONTINUED != 0 } else { options & WUNTRACED != 0 };
            if is_wanted {
                if options & WNOWAIT == 0 {
                    child.report.set(None);
                }
                return Ok(Some(Reaped { child, status }));
            }
        }
    }
    if !any {
        return Err(Errno::ECHILD.into());
    }
    if options & WNOHANG != 0 {
        return Ok(None);
    }
    own.queue.join(task.waiter());
    Err(WAIT)
}
