//! Signals (sigaction(2), sigprocmask(2), kill(2), sigtimedwait(2), sigaltstack(2)).

use super::{Call, Outcome, time};
use crate::{
    file::{Object, OpenFile, node::Kind},
    linux::{
        Errno, O_NONBLOCK, POLLIN, SI_TKILL, SI_USER, SIGCONT, SIGKILL, SIGNALS, SIGSTOP,
        layouts::{Sigaction, Sigaltstack, Siginfo, Timespec},
    },
    machine::guest::{self, Sink},
    task::{Life, Process, credentials::CAP_KILL, frame, signal},
    wait::{Stop, WAIT},
};
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Signals that cannot be blocked.
const UNBLOCKABLE: u64 = signal::bit(SIGKILL) | signal::bit(SIGSTOP);
/// Smallest alternate stack.
const MINSIGSTKSZ: u64 = 2048;

pub(super) fn rt_sigaction(call: &mut Call<'_>) -> Outcome {
    let (signo, new, old) = (call.argument(0), call.argument(1), call.argument(2));
    if !(1..=u64::from(SIGNALS)).contains(&signo) || call.argument(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let signo = signo as u8;
    if new != 0 && (signo == SIGKILL || signo == SIGSTOP) {
        return Err(Errno::EINVAL.into());
    }
    let actions = call.task.process.actions.borrow().clone();
    let before = actions.get(signo);
    if new != 0 {
        let mut action: Sigaction = guest::read(new)?;
        action.mask &= !UNBLOCKABLE;
        if let Some(place) = actions.0.borrow_mut().get_mut(usize::from(signo) - 1) {
            *place = action;
        }
    }
    if old != 0 {
        guest::write(old, &before)?;
    }
    Ok(0)
}

pub(super) fn rt_sigprocmask(call: &mut Call<'_>) -> Outcome {
    if call.argument(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let before = call.task.mask.get();
    if call.argument(1) != 0 {
        let set: u64 = guest::read(call.argument(1))?;
        let mask = match call.argument(0) {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        call.task.mask.set(mask & !UNBLOCKABLE);
        if signal::deliverable(call.task) != 0 {
            call.task.has_work.set(true);
        }
    }
    if call.argument(2) != 0 {
        guest::write(call.argument(2), &before)?;
    }
    Ok(0)
}

pub(super) fn rt_sigreturn(call: &mut Call<'_>) -> Outcome {
    if frame::sigreturn(call.task).is_err() {
        signal::force(call.task, signal::info_from_kernel(crate::linux::SIGSEGV));
    }
    Err(Stop::Done)
}

fn pending(call: &Call<'_>) -> u64 {
    call.task.pending.borrow().set() | call.task.process.pending.borrow().set()
}

pub(super) fn rt_sigpending(call: &mut Call<'_>) -> Outcome {
    let set = pending(call) & call.task.mask.get();
    guest::write(call.argument(0), &set)?;
    Ok(0)
}

pub(super) fn rt_sigsuspend(call: &mut Call<'_>) -> Outcome {
    if call.argument(1) != 8 {
        return Err(Errno::EINVAL.into());
    }
    if call.task.saved_mask.get().is_none() {
        let mask: u64 = guest::read(call.argument(0))?;
        call.task.saved_mask.set(Some(call.task.mask.get()));
        call.task.mask.set(mask & !UNBLOCKABLE);
    }
    Err(WAIT)
}

pub(super) fn pause(_call: &mut Call<'_>) -> Outcome {
    Err(WAIT)
}

pub(super) fn restart_syscall(_call: &mut Call<'_>) -> Outcome {
    Err(Errno::EINTR.into())
}

pub(super) fn rt_sigtimedwait(call: &mut Call<'_>) -> Outcome {
    if call.argument(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let wanted: u64 = guest::read::<u64>(call.argument(0))? & !UNBLOCKABLE;
    let limit = match call.argument(2) {
        0 => u64::MAX,
        at => time::deadline_after(call, time::duration(&guest::read::<Timespec>(at)?)?),
    };
    if let Some(info) = signal::take(call.task, wanted) {
        if call.argument(1) != 0 {
            guest::write(call.argument(1), &info)?;
        }
        return Ok(info.signo as u64);
    }
    if rt::clock::now() >= limit { Err(Errno::EAGAIN.into()) } else { Err(Stop::Wait(limit)) }
}

/// Whether the caller may signal a process.
fn check(call: &Call<'_>, process: &Process, signo: u8) -> Result<(), Errno> {
    let own = call.task.credentials();
    let other = process.credentials.borrow();
    let is_same = [own.users[0], own.users[1]]
        .iter()
        .any(|user| *user == other.users[0] || *user == other.users[2]);
    let is_continuation =
        signo == SIGCONT && process.session.get() == call.task.process.session.get();
    if is_same || is_continuation || own.has(CAP_KILL) { Ok(()) } else { Err(Errno::EPERM) }
}

fn number(value: u64) -> Result<u8, Errno> {
    if value > u64::from(SIGNALS) { Err(Errno::EINVAL) } else { Ok(value as u8) }
}

fn info(call: &Call<'_>, signo: u8, code: i32) -> Siginfo {
    let uid = call.task.credentials().users[0];
    signal::info_from(signo, code, call.task.process.pid, uid)
}

pub(super) fn kill(call: &mut Call<'_>) -> Outcome {
    let (pid, signo) = (call.int(0), number(call.argument(1) & 0xffff_ffff)?);
    let targets: Vec<Rc<Process>> = match pid {
        0 => call.system.processes.group(call.task.process.group.get()),
        -1 => call
            .system
            .processes
            .all()
            .into_iter()
            .filter(|process| process.pid != 1 && process.pid != call.task.process.pid)
            .collect(),
        pid if pid < 0 => call.system.processes.group(pid.checked_neg().ok_or(Errno::ESRCH)?),
        pid => call.system.processes.get(pid).into_iter().collect(),
    };
    let mut result = Err(Errno::ESRCH);
    for process in targets {
        match check(call, &process, signo) {
            Ok(()) => {
                signal::send_to_process(&process, signo, info(call, signo, SI_USER));
                if signo == SIGCONT {
                    signal::tell_continued(call.system, &process);
                }
                result = Ok(0);
            }
            Err(errno) if result == Err(Errno::ESRCH) => result = Err(errno),
            Err(_) => {}
        }
    }
    result.map_err(Into::into)
}

fn kill_task(
    call: &mut Call<'_>,
    group: Option<i32>,
    tid: i32,
    signo: u8,
    what: Siginfo,
) -> Outcome {
    if tid <= 0 || group.is_some_and(|group| group <= 0) {
        return Err(Errno::EINVAL.into());
    }
    let task = call.system.processes.task(tid).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| task.process.pid != group) {
        return Err(Errno::ESRCH.into());
    }
    check(call, &task.process, signo)?;
    signal::send_to_task(&task, signo, what);
    Ok(0)
}

pub(super) fn tkill(call: &mut Call<'_>) -> Outcome {
    let signo = number(call.argument(1) & 0xffff_ffff)?;
    let (tid, what) = (call.int(0), info(call, signo, SI_TKILL));
    kill_task(call, None, tid, signo, what)
}

pub(super) fn tgkill(call: &mut Call<'_>) -> Outcome {
    let signo = number(call.argument(2) & 0xffff_ffff)?;
    let (group, tid, what) = (call.int(0), call.int(1), info(call, signo, SI_TKILL));
    kill_task(call, Some(group), tid, signo, what)
}

fn given_info(call: &Call<'_>, address: u64, signo: u8, pid: i32) -> Result<Siginfo, Errno> {
    let mut what: Siginfo = guest::read(address)?;
    if (what.code >= 0 || what.code == SI_TKILL) && pid != call.task.process.pid {
        return Err(Errno::EPERM);
    }
    what.signo = signo.into();
    Ok(what)
}

pub(super) fn rt_sigqueueinfo(call: &mut Call<'_>) -> Outcome {
    let (pid, signo) = (call.int(0), number(call.argument(1) & 0xffff_ffff)?);
    let what = given_info(call, call.argument(2), signo, pid)?;
    let process = call.system.processes.get(pid).ok_or(Errno::ESRCH)?;
    check(call, &process, signo)?;
    signal::send_to_process(&process, signo, what);
    Ok(0)
}

pub(super) fn rt_tgsigqueueinfo(call: &mut Call<'_>) -> Outcome {
    let (group, tid, signo) = (call.int(0), call.int(1), number(call.argument(2) & 0xffff_ffff)?);
    let what = given_info(call, call.argument(3), signo, group)?;
    kill_task(call, Some(group), tid, signo, what)
}

/// The process that a descriptor names: of pidfd_open(2), or a directory /proc/PID.
fn named_process(call: &Call<'_>, file: &OpenFile) -> Result<Rc<Process>, Errno> {
    if let Object::Process(process) = &file.object {
        let is_gone = matches!(process.life.get(), Life::Zombie(_))
            && call.system.processes.get(process.pid).is_none();
        return if is_gone { Err(Errno::ESRCH) } else { Ok(process.clone()) };
    }
    let pid = file.node.as_ref().and_then(|node| match &node.kind {
        Kind::Proc(place) => place.process(),
        _ => None,
    });
    call.system.processes.get(pid.ok_or(Errno::EBADF)?).ok_or(Errno::ESRCH)
}

pub(super) fn pidfd_send_signal(call: &mut Call<'_>) -> Outcome {
    if call.argument(3) & 0xffff_ffff != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = call.file(0)?;
    let process = named_process(call, &file)?;
    let signo = number(call.argument(1) & 0xffff_ffff)?;
    let what = match call.argument(2) {
        0 => info(call, signo, SI_USER),
        at => given_info(call, at, signo, process.pid)?,
    };
    check(call, &process, signo)?;
    signal::send_to_process(&process, signo, what);
    Ok(0)
}

pub(super) fn sigaltstack(call: &mut Call<'_>) -> Outcome {
    let current = call.task.alternate_stack.get();
    let sp = call.task.state.rsp();
    let is_in_use = current.size != 0 && sp > current.sp && sp - current.sp <= current.size;
    if call.argument(0) != 0 {
        let mut new: Sigaltstack = guest::read(call.argument(0))?;
        if is_in_use {
            return Err(Errno::EPERM.into());
        }
        if new.flags & signal::SS_DISABLE != 0 {
            new = Sigaltstack { sp: 0, flags: signal::SS_DISABLE, padding: 0, size: 0 };
        } else if new.flags & !1 != 0 {
            return Err(Errno::EINVAL.into());
        } else if new.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM.into());
        }
        call.task.alternate_stack.set(new);
    }
    if call.argument(1) != 0 {
        let flags = if current.size == 0 { signal::SS_DISABLE } else { i32::from(is_in_use) };
        guest::write(call.argument(1), &Sigaltstack { flags, ..current })?;
    }
    Ok(0)
}

/// Reads a signalfd: structures of 128 bytes.
pub(super) fn read_signalfd(
    call: &Call<'_>,
    file: &OpenFile,
    mask: u64,
    sink: &mut Sink<'_>,
) -> Outcome {
    if sink.room() < 128 {
        return Err(Errno::EINVAL.into());
    }
    let mut count = 0;
    while sink.room() >= 128 {
        let Some(info) = signal::take(call.task, mask) else { break };
        let mut words = [0_u32; 32];
        words[0] = info.signo as u32;
        words[1] = info.errno as u32;
        words[2] = info.code as u32;
        words[3] = info.fields[0] as u32;
        words[4] = (info.fields[0] >> 32) as u32;
        // Status of a child, or the value of a queued signal.
        words[10] = info.fields[1] as u32;
        words[11] = info.fields[1] as u32;
        sink.put(zerocopy::IntoBytes::as_bytes(&words))?;
        count += 128;
    }
    if count > 0 {
        return Ok(count);
    }
    if file.flags() & O_NONBLOCK != 0 { Err(Errno::EAGAIN.into()) } else { Err(WAIT) }
}

/// What poll(2) says of a signalfd.
pub(super) fn poll_signalfd(call: &Call<'_>, mask: u64) -> u32 {
    if pending(call) & mask != 0 { POLLIN } else { 0 }
}
