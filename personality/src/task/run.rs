//! The loop of a task: enter the guest, do what it asks for, deliver signals, enter again.

use super::{Life, Task, exit, fork::Start, shortage, signal};
use crate::{
    linux::{
        BUS_ADRERR, Errno, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV,
        SIGTRAP,
    },
    machine::{
        Handed, attached, guest,
        state::{self, enter},
    },
    memory::mapped::{Touch, Wish},
    syscall,
    system::{SYSTEM, System},
    wait::Stop,
};
use alloc::rc::Rc;
use kernel_abi::guest::Exit;

/// What a task does next.
#[derive(Debug)]
enum Next {
    /// Runs its guest.
    Enter,
    /// Waits until woken or a deadline, then begins its call anew.
    Park(u64),
    /// Waits until woken or a deadline, then runs its guest.
    Linger(u64),
    /// Is stopped until continued.
    Stopped,
    /// Ends.
    End,
}

/// The first steps of a new thread.
pub(super) fn begin(start: Handed<Start>) {
    let Start { task, fs, gs, mut vectors, set_tid } = start.0;
    guest::catch_faults();
    let attached = SYSTEM.with(|_| {
        let memory = task.process.memory.borrow().clone();
        let result = attached::attach(&memory);
        if let Some(address) = set_tid {
            let _ = guest::write(address, &task.tid);
        }
        result.is_ok()
    });
    if attached == Some(true) {
        state::set_fs_base(fs);
        state::set_gs_base(gs);
        vectors.load();
        drop(vectors);
    } else {
        exit::exit_process(&task.process, SIGKILL.into());
    }
    run(task);
}

/// Runs a task until its end.
pub(crate) fn run(task: Rc<Task>) {
    let mut task = Some(Handed(task));
    let mut exit = Exit::Kick;
    while let Some(Handed(current)) = &task {
        let next = SYSTEM.with(|system| step(system, current, exit)).unwrap_or(Next::End);
        match next {
            Next::Enter => exit = enter(),
            Next::Park(deadline) => {
                let _ = rt::thread::park_until(deadline);
                exit = Exit::Syscall;
            }
            Next::Linger(deadline) => {
                let _ = rt::thread::park_until(deadline);
                exit = Exit::Kick;
            }
            Next::Stopped => {
                rt::thread::park();
                exit = Exit::Kick;
            }
            Next::End => {
                // The last reference to the task may go here, which is the shared state's business.
                let last = task.take();
                let _ = SYSTEM.with(|system| {
                    if let Some(Handed(task)) = last {
                        exit::finish_task(system, &task);
                        crate::session::flush_if_dirty(system);
                    }
                });
            }
        }
    }
    let _ = rt::arch::call(kernel_abi::Operation::GuestAttach, [0; 6]);
}

fn step(system: &mut System, task: &Rc<Task>, exit: Exit) -> Next {
    let mut interrupted = None;
    match exit {
        Exit::Syscall => {
            let number = task.state.rax();
            attached::begin_call();
            match syscall::dispatch(system, task) {
                Ok(value) => {
                    task.state.set_rax(value);
                    finish_call(system, task);
                }
                Err(Stop::Errno(Errno::EFAULT)) if attached::is_short() => {
                    return lack(system, task, number);
                }
                Err(Stop::Errno(errno)) => {
                    task.state.set_rax(errno.result());
                    finish_call(system, task);
                }
                Err(Stop::Done) => finish_call(system, task),
                Err(Stop::Wait(deadline)) => match stop_waiting(system, task, number) {
                    Some(call) => interrupted = Some(call),
                    None => {
                        crate::session::flush_if_dirty(system);
                        return park(task, deadline);
                    }
                },
            }
        }
        Exit::Exception => exception(task),
        Exit::Fault => {
            if let Some(deadline) = fault(system, task) {
                return linger(system, task, deadline);
            }
        }
        Exit::Kick => {}
    }
    if (task.has_work.get() || task.process.exiting.get().is_some() || interrupted.is_some())
        && let Some(next) = work(system, task, interrupted)
    {
        crate::session::flush_if_dirty(system);
        return next;
    }
    crate::session::flush_if_dirty(system);
    Next::Enter
}

/// A call has found no memory for a page of the guest's: it begins anew when there may be some, as if the touch had been the program's.
#[cold]
fn lack(system: &mut System, task: &Rc<Task>, number: u64) -> Next {
    let mut interrupted = None;
    if let Some(deadline) = shortage::wait(system, task) {
        interrupted = stop_waiting(system, task, number);
        if interrupted.is_none() {
            crate::session::flush_if_dirty(system);
            return park(task, deadline);
        }
    } else {
        task.state.set_rax(Errno::EFAULT.result());
        finish_call(system, task);
    }
    let next = work(system, task, interrupted).unwrap_or(Next::Enter);
    crate::session::flush_if_dirty(system);
    next
}

/// A task waits until it may touch a page again; signals come first.
#[cold]
fn linger(system: &mut System, task: &Rc<Task>, deadline: u64) -> Next {
    let next = work(system, task, None).unwrap_or(Next::Linger(deadline));
    crate::session::flush_if_dirty(system);
    next
}

/// A call is over: its own mask goes, unless a handler's frame has it.
fn finish_call(system: &System, task: &Rc<Task>) {
    if task.call.get().begun != 0 || task.call.get().progress != 0 {
        signal::end_call(system, task);
    }
    if let Some(mask) = task.saved_mask.get()
        && signal::deliverable(task) == 0
    {
        task.saved_mask.set(None);
        task.mask.set(mask);
        if signal::deliverable(task) != 0 {
            task.has_work.set(true);
        }
    }
}

fn park(task: &Task, deadline: u64) -> Next {
    // The waits of several queues may have a far deadline; a call that never began to count does so now.
    task.call_begun();
    Next::Park(deadline)
}

/// Whether a signal ends the wait of a call, and how it then goes on.
fn stop_waiting(system: &System, task: &Rc<Task>, number: u64) -> Option<signal::Interrupted> {
    if syscall::is_uninterruptible(number) && !task.is_ending.get() {
        // Whatever came waits until the call is over.
        task.has_work.set(true);
        return None;
    }
    let must_stop = task.is_ending.get() || matches!(task.process.life.get(), Life::Stopped(_));
    if !must_stop && signal::deliverable(task) == 0 {
        task.has_work.set(false);
        return None;
    }
    let progress = task.call.get().progress;
    if progress > 0 && !must_stop {
        task.state.set_rax(progress as u64);
        signal::end_call(system, task);
        task.has_work.set(true);
        // What was done is the result; signals are delivered as after any call.
        return Some(signal::Interrupted { number: DONE, restarts: false });
    }
    system.futexes.forget(task);
    Some(signal::Interrupted { number, restarts: syscall::restarts(number) })
}

/// Stands for a call that has a result already.
const DONE: u64 = u64::MAX;

/// Signals, stops and the end. `None` when the guest goes on.
fn work(
    system: &mut System,
    task: &Rc<Task>,
    interrupted: Option<signal::Interrupted>,
) -> Option<Next> {
    task.has_work.set(false);
    let interrupted = interrupted.filter(|call| call.number != DONE);
    signal::deliver(system, task, interrupted);
    if task.is_ending.get() {
        return Some(Next::End);
    }
    if let Life::Stopped(_) = task.process.life.get() {
        task.has_work.set(true);
        return Some(Next::Stopped);
    }
    None
}

/// An exception of the guest becomes a signal.
#[cold]
fn exception(task: &Rc<Task>) {
    let state = task.state;
    let address = state.rip();
    let (signo, code) = match state.exit_address() {
        0 => (SIGFPE, 1),
        1 | 3 => (SIGTRAP, 1),
        6 => (SIGILL, 2),
        16 | 19 => (SIGFPE, 7),
        17 => (SIGBUS, 1),
        _ => (SIGSEGV, crate::linux::SI_KERNEL),
    };
    let address = if signo == SIGSEGV { 0 } else { address };
    if state.exit_address() == 1 {
        state.set_rflags(state.rflags() & !0x100);
    }
    signal::force(task, signal::info_of_fault(signo, code, address));
}

/// A page fault that the kernel has not resolved; until when the task has to wait before it tries again.
#[inline(never)]
fn fault(system: &System, task: &Rc<Task>) -> Option<u64> {
    let address = task.state.exit_address();
    let memory = task.process.memory.borrow().clone();
    let wish = match task.state.exit_code() {
        code if code & 16 != 0 => Wish::Execute,
        code if code & 2 != 0 => Wish::Write,
        _ => Wish::Read,
    };
    let (signo, code) = match memory.touch(address, wish) {
        Touch::Filled => return None,
        Touch::NoMemory => return shortage::wait(system, task),
        Touch::Unmapped => (SIGSEGV, SEGV_MAPERR),
        Touch::Refused => (SIGSEGV, SEGV_ACCERR),
        Touch::NoPage => (SIGBUS, BUS_ADRERR),
    };
    signal::force(task, signal::info_of_fault(signo, code, address));
    None
}
