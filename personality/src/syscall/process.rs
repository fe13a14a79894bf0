//! Processes (clone(2), execve(2), wait(2), exit(2), credentials(7), setpgid(2), prctl(2), futex(2), sched(7)).

use super::{Call, Outcome, time};
use crate::{
    file::{Object, OpenFile, path},
    linux::{
        AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, CLD_CONTINUED, CLD_EXITED, CLD_KILLED,
        CLD_STOPPED, CLONE_NAMESPACES, CLONE_VFORK, CLONE_VM, Errno, O_CLOEXEC, O_RDWR,
        RLIM_INFINITY, RLIMITS, SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WUNTRACED,
        layouts::{CloneArgs, Rlimit, Siginfo, Timespec},
    },
    machine::{guest, state},
    task::{
        Process,
        credentials::{CAP_SETGID, CAP_SETUID, Credentials},
        exec, exit, fork,
        futex::key,
        signal,
    },
    wait::{Stop, WAIT},
};
use alloc::{rc::Rc, vec::Vec};

/// Arguments and environment strings of execve(2).
const MAX_STRINGS: usize = 1 << 17;

fn do_clone(call: &mut Call<'_>, arguments: &CloneArgs) -> Outcome {
    // After a wait for vfork's child the call comes here again: the child's number is remembered.
    let memo = call.task.call.get().memo;
    let pid = if memo == 0 { fork::clone(call.system, call.task, arguments)? } else { memo as i32 };
    if arguments.flags & CLONE_VFORK != 0
        && let Some(child) = call.system.processes.get(pid)
        && child.borrows_memory.get()
        && !matches!(child.life.get(), crate::task::Life::Zombie(_))
    {
        call.task.call_begun();
        let mut state = call.task.call.get();
        state.memo = pid as u64;
        call.task.call.set(state);
        child.end_queue.join(call.task.waiter());
        return Err(WAIT);
    }
    Ok(pid as u64)
}

pub(super) fn clone(call: &mut Call<'_>) -> Outcome {
    let arguments = CloneArgs {
        flags: call.argument(0) & 0xffff_ffff,
        stack: call.argument(1),
        parent_tid: call.argument(2),
        child_tid: call.argument(3),
        tls: call.argument(4),
        ..CloneArgs::default()
    };
    do_clone(call, &arguments)
}

pub(super) fn clone3(call: &mut Call<'_>) -> Outcome {
    let size = call.argument(1);
    if !(64..=4096).contains(&size) {
        return Err(Errno::EINVAL.into());
    }
    let mut arguments = CloneArgs::default();
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut arguments);
    let count = bytes.len().min(size as usize);
    guest::read_bytes(call.argument(0), bytes.get_mut(..count).unwrap_or_default())?;
    if arguments.flags & 0xff != 0
        || arguments.exit_signal > 64
        || (arguments.stack == 0) != (arguments.stack_size == 0)
    {
        return Err(Errno::EINVAL.into());
    }
    if arguments.set_tid_size != 0
        || arguments.flags >> 32 != 0
        || arguments.flags & crate::linux::CLONE_PIDFD != 0
    {
        crate::gap!(call.system, "clone3: set_tid, pidfd, cgroup");
        return Err(Errno::EINVAL.into());
    }
    do_clone(call, &arguments)
}

pub(super) fn fork(call: &mut Call<'_>) -> Outcome {
    do_clone(call, &CloneArgs { exit_signal: SIGCHLD.into(), ..CloneArgs::default() })
}

pub(super) fn vfork(call: &mut Call<'_>) -> Outcome {
    do_clone(
        call,
        &CloneArgs {
            flags: CLONE_VM | CLONE_VFORK,
            exit_signal: SIGCHLD.into(),
            ..CloneArgs::default()
        },
    )
}

/// Reads an array of strings that ends with a null pointer.
fn strings(address: u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::new();
    let mut total = 0;
    let mut at = address;
    while at != 0 {
        let pointer: u64 = guest::read(at)?;
        if pointer == 0 {
            break;
        }
        let text = guest::read_string(pointer, MAX_STRINGS)
            .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::ETOOBIG } else { errno })?;
        total += text.len() + 9;
        if total > 2 << 20 {
            return Err(Errno::ETOOBIG);
        }
        list.push(text);
        at += 8;
    }
    Ok(list)
}

fn execute(
    call: &mut Call<'_>,
    fd: i32,
    path: Vec<u8>,
    flags: u32,
    arguments: u64,
    environment: u64,
) -> Outcome {
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    // Other tasks of the process end first.
    let process = call.task.process.clone();
    let node =
        call.node_at(fd, &path, flags & AT_SYMLINK_NOFOLLOW == 0, flags & AT_EMPTY_PATH != 0)?;
    let mut arguments = strings(arguments)?;
    let environment = strings(environment)?;
    if arguments.is_empty() {
        arguments.push(Vec::new());
    }
    let path = if path.is_empty() { alloc::format!("/dev/fd/{fd}").into_bytes() } else { path };
    if process.tasks.borrow().len() > 1 {
        let credentials = call.task.credentials();
        let meta = node.meta();
        if !credentials.may(meta.mode, meta.uid, meta.gid, 1) {
            return Err(Errno::EACCES.into());
        }
        for other in process.tasks.borrow().iter().filter(|other| other.tid != call.task.tid) {
            other.is_ending.set(true);
            other.notify();
        }
        process.end_queue.join(call.task.waiter());
        return Err(WAIT);
    }
    let request = exec::Request { node, path, arguments, environment };
    let place = call.task.place();
    let credentials = call.task.credentials();
    let walker = path::Walker { place: &place, credentials: &credentials, start: None };
    match exec::load(request, &walker, &process, &call.system.vdso) {
        Ok(loaded) => {
            let files = call.task.files();
            // A table that was shared with another process stays theirs.
            let files = if Rc::strong_count(&files) > 2 {
                let own = Rc::new(core::cell::RefCell::new(files.borrow().clone()));
                *call.task.files.borrow_mut() = own.clone();
                own
            } else {
                files
            };
            let closed = files.borrow_mut().take_close_on_exec();
            drop(closed);
            exec::enter(call.task, loaded);
            Err(Stop::Done)
        }
        Err(errno) => {
            let memory = process.memory.borrow().clone();
            exec::attach(&memory)?;
            Err(errno.into())
        }
    }
}

pub(super) fn execve(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    if path.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let (arguments, environment) = (call.argument(1), call.argument(2));
    execute(call, AT_FDCWD, path, 0, arguments, environment)
}

pub(super) fn execveat(call: &mut Call<'_>) -> Outcome {
    let path = call.path(1)?;
    let (fd, flags, arguments, environment) =
        (call.int(0), call.argument(4) as u32, call.argument(2), call.argument(3));
    execute(call, fd, path, flags, arguments, environment)
}

pub(super) fn exit(call: &mut Call<'_>) -> Outcome {
    let status = (call.int(0) & 0xff) << 8;
    if call.task.process.tasks.borrow().len() == 1 && call.task.process.exiting.get().is_none() {
        call.task.process.exiting.set(Some(status));
    }
    call.task.is_ending.set(true);
    call.task.has_work.set(true);
    Err(Stop::Done)
}

pub(super) fn exit_group(call: &mut Call<'_>) -> Outcome {
    exit::exit_process(&call.task.process, (call.int(0) & 0xff) << 8);
    Err(Stop::Done)
}

fn which(call: &Call<'_>, pid: i32) -> exit::Which {
    match pid {
        -1 => exit::Which::Any,
        0 => exit::Which::Group(call.task.process.group.get()),
        pid if pid < 0 => exit::Which::Group(pid.saturating_neg()),
        pid => exit::Which::Process(pid),
    }
}

pub(super) fn wait4(call: &mut Call<'_>) -> Outcome {
    let options = call.argument(2) & 0xffff_ffff;
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | 0xe000_0000) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let which = which(call, call.int(0));
    let Some(found) = exit::wait(call.system, call.task, which, options | WEXITED)? else {
        return Ok(0);
    };
    if call.argument(1) != 0 {
        guest::write(call.argument(1), &found.status)?;
    }
    if call.argument(3) != 0 {
        let (used, guest_time) = found.child.cpu_time();
        guest::write(call.argument(3), &time::usage(used, guest_time))?;
    }
    Ok(found.child.pid as u64)
}

pub(super) fn waitid(call: &mut Call<'_>) -> Outcome {
    let options = call.argument(3);
    if options & (WEXITED | WUNTRACED | WCONTINUED) == 0
        || options & !(WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | 0xe000_0000) != 0
    {
        return Err(Errno::EINVAL.into());
    }
    let id = call.int(1);
    let which = match call.argument(0) {
        0 => exit::Which::Any,
        1 => exit::Which::Process(id),
        2 => exit::Which::Group(if id == 0 { call.task.process.group.get() } else { id }),
        3 => match &call.file(1)?.object {
            Object::Process(process) => exit::Which::Process(process.pid),
            _ => return Err(Errno::EBADF.into()),
        },
        _ => return Err(Errno::EINVAL.into()),
    };
    let found = exit::wait(call.system, call.task, which, options)?;
    let info = found.as_ref().map_or_else(Siginfo::default, |found| {
        let status = found.status;
        let (code, value) = match status {
            0xffff => (CLD_CONTINUED, i32::from(crate::linux::SIGCONT)),
            status if status & 0xff == 0x7f => (CLD_STOPPED, status >> 8 & 0xff),
            status if status & 0x7f == 0 => (CLD_EXITED, status >> 8 & 0xff),
            status => (CLD_KILLED, status & 0x7f),
        };
        signal::info_of_child(&found.child, code, value)
    });
    if call.argument(2) != 0 {
        guest::write(call.argument(2), &info)?;
    }
    Ok(0)
}

pub(super) fn getpid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.process.pid as u64)
}

pub(super) fn gettid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.tid as u64)
}

pub(super) fn getppid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.process.parent.get() as u64)
}

fn process_or_own(call: &Call<'_>, pid: i32) -> Result<Rc<Process>, Errno> {
    if pid == 0 {
        Ok(call.task.process.clone())
    } else {
        call.system.processes.get(pid).ok_or(Errno::ESRCH)
    }
}

pub(super) fn getpgid(call: &mut Call<'_>) -> Outcome {
    Ok(process_or_own(call, call.int(0))?.group.get() as u64)
}

pub(super) fn getpgrp(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.process.group.get() as u64)
}

pub(super) fn getsid(call: &mut Call<'_>) -> Outcome {
    Ok(process_or_own(call, call.int(0))?.session.get() as u64)
}

pub(super) fn setpgid(call: &mut Call<'_>) -> Outcome {
    let (pid, group) = (call.int(0), call.int(1));
    let own = &call.task.process;
    if group < 0 {
        return Err(Errno::EINVAL.into());
    }
    let process = process_or_own(call, pid)?;
    let is_child = process.parent.get() == own.pid;
    if process.pid != own.pid && !is_child {
        return Err(Errno::ESRCH.into());
    }
    if is_child && process.has_executed.get() {
        return Err(Errno::EACCES.into());
    }
    if process.session.get() != own.session.get() || process.session.get() == process.pid {
        return Err(Errno::EPERM.into());
    }
    let group = if group == 0 { process.pid } else { group };
    let exists = group == process.pid
        || call
            .system
            .processes
            .group(group)
            .iter()
            .any(|member| member.session.get() == own.session.get());
    if !exists {
        return Err(Errno::EPERM.into());
    }
    process.group.set(group);
    Ok(0)
}

pub(super) fn setsid(call: &mut Call<'_>) -> Outcome {
    let process = &call.task.process;
    if !call.system.processes.group(process.pid).is_empty() {
        return Err(Errno::EPERM.into());
    }
    process.group.set(process.pid);
    process.session.set(process.pid);
    *process.terminal.borrow_mut() = None;
    Ok(process.pid as u64)
}

pub(super) fn set_tid_address(call: &mut Call<'_>) -> Outcome {
    call.task.clear_tid.set(call.argument(0));
    Ok(call.task.tid as u64)
}

pub(super) fn futex(call: &mut Call<'_>) -> Outcome {
    const PRIVATE: u64 = 128;
    const CLOCK_REALTIME: u64 = 256;
    let (address, operation, value) = (call.argument(0), call.argument(1), call.argument(2) as u32);
    let timeout = call.argument(3);
    let clock = if operation & CLOCK_REALTIME != 0 {
        crate::linux::CLOCK_REALTIME
    } else {
        crate::linux::CLOCK_MONOTONIC
    };
    let bits = call.argument(5) as u32;
    match operation & !(PRIVATE | CLOCK_REALTIME) {
        command @ (0 | 9) => {
            let deadline = match timeout {
                0 => u64::MAX,
                at => {
                    let wanted = time::duration(&guest::read::<Timespec>(at)?)?;
                    if command == 0 {
                        time::deadline_after(call, wanted)
                    } else {
                        time::deadline_at(clock, wanted)
                    }
                }
            };
            let bits = if command == 0 { u32::MAX } else { bits };
            let result = call.system.futexes.wait(call.task, address, value, bits, deadline);
            if matches!(result, Err(Stop::Wait(_))) {
                call.task.call_begun();
            }
            result
        }
        command @ (1 | 10) => {
            let bits = if command == 1 { u32::MAX } else { bits };
            if bits == 0 || address % 4 != 0 {
                return Err(Errno::EINVAL.into());
            }
            let key = key(call.task, address);
            Ok(call.system.futexes.wake(&call.system.processes, key, value, bits))
        }
        command @ (3 | 4) => {
            let target = call.argument(4);
            if command == 4 && guest::load(address)? != call.argument(5) as u32 {
                return Err(Errno::EAGAIN.into());
            }
            let (from, to) = (key(call.task, address), key(call.task, target));
            let (woken, moved) = call.system.futexes.requeue(
                &call.system.processes,
                from,
                to,
                value,
                timeout as u32,
            );
            Ok(if command == 3 { woken } else { woken + moved })
        }
        5 => wake_operation(call, address, value),
        _ => {
            crate::gap!(call.system, "futex: priority inheritance");
            Err(Errno::ENOSYS.into())
        }
    }
}

/// FUTEX_WAKE_OP.
fn wake_operation(call: &mut Call<'_>, address: u64, count: u32) -> Outcome {
    let (second, other_count, encoded) =
        (call.argument(4), call.argument(3) as u32, call.argument(5) as u32);
    let sign = |value: u32| ((value << 20) as i32) >> 20;
    let (mut operand, compared) = (sign(encoded >> 12 & 0xfff), sign(encoded & 0xfff));
    if encoded >> 31 != 0 {
        operand = 1_i32.wrapping_shl(operand as u32 & 31);
    }
    let old = loop {
        let old = guest::load(second)?;
        let new = match encoded >> 28 & 7 {
            0 => operand as u32,
            1 => old.wrapping_add(operand as u32),
            2 => old | operand as u32,
            3 => old & !(operand as u32),
            4 => old ^ operand as u32,
            _ => return Err(Errno::ENOSYS.into()),
        };
        if guest::exchange(second, old, new)? == old {
            break old as i32;
        }
    };
    let holds = match encoded >> 24 & 0xf {
        0 => old == compared,
        1 => old != compared,
        2 => old < compared,
        3 => old <= compared,
        4 => old > compared,
        5 => old >= compared,
        _ => return Err(Errno::ENOSYS.into()),
    };
    let mut woken =
        call.system.futexes.wake(&call.system.processes, key(call.task, address), count, u32::MAX);
    if holds {
        woken += call.system.futexes.wake(
            &call.system.processes,
            key(call.task, second),
            other_count,
            u32::MAX,
        );
    }
    Ok(woken)
}

pub(super) fn set_robust_list(call: &mut Call<'_>) -> Outcome {
    if call.argument(1) != 24 {
        return Err(Errno::EINVAL.into());
    }
    call.task.robust_list.set(call.argument(0));
    Ok(0)
}

pub(super) fn get_robust_list(call: &mut Call<'_>) -> Outcome {
    let task = match call.int(0) {
        0 => call.task.clone(),
        tid => call.system.processes.task(tid).ok_or(Errno::ESRCH)?,
    };
    guest::write(call.argument(1), &task.robust_list.get())?;
    guest::write(call.argument(2), &24_u64)?;
    Ok(0)
}

pub(super) fn sched_yield(_call: &mut Call<'_>) -> Outcome {
    rt::thread::yield_now();
    Ok(0)
}

pub(super) fn getuid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().users[0].into())
}

pub(super) fn geteuid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().users[1].into())
}

pub(super) fn getgid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().groups[0].into())
}

pub(super) fn getegid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().groups[1].into())
}

fn tell_ids(call: &Call<'_>, ids: [u32; 4]) -> Outcome {
    for (index, id) in ids.iter().take(3).enumerate() {
        guest::write(call.argument(index), id)?;
    }
    Ok(0)
}

pub(super) fn getresuid(call: &mut Call<'_>) -> Outcome {
    tell_ids(call, call.task.credentials().users)
}

pub(super) fn getresgid(call: &mut Call<'_>) -> Outcome {
    tell_ids(call, call.task.credentials().groups)
}

/// Changes real, effective and saved ids (`u32::MAX`: no change), if each is one the process has or it is privileged.
fn change_ids(call: &Call<'_>, users: bool, new: [u32; 3]) -> Outcome {
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let old = if users { credentials.users } else { credentials.groups };
    let privileged = credentials.has(if users { CAP_SETUID } else { CAP_SETGID });
    if !privileged && new.iter().any(|id| *id != u32::MAX && !old[..3].contains(id)) {
        return Err(Errno::EPERM.into());
    }
    let mut ids = old;
    for (place, id) in ids.iter_mut().zip(new) {
        if id != u32::MAX {
            *place = id;
        }
    }
    ids[3] = ids[1];
    if users {
        credentials.users = ids;
        credentials.update_capabilities(old);
    } else {
        credentials.groups = ids;
    }
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}

fn set_id(call: &Call<'_>, users: bool) -> Outcome {
    let id = call.argument(0) as u32;
    let privileged = call.task.credentials().has(if users { CAP_SETUID } else { CAP_SETGID });
    change_ids(call, users, if privileged { [id; 3] } else { [u32::MAX, id, u32::MAX] })
}

pub(super) fn setuid(call: &mut Call<'_>) -> Outcome {
    set_id(call, true)
}

pub(super) fn setgid(call: &mut Call<'_>) -> Outcome {
    set_id(call, false)
}

fn set_pair(call: &Call<'_>, users: bool) -> Outcome {
    let (real, effective) = (call.argument(0) as u32, call.argument(1) as u32);
    let credentials = call.task.credentials();
    let old = if users { credentials.users } else { credentials.groups };
    let changes_saved = real != u32::MAX || effective != u32::MAX && effective != old[0];
    let saved = if changes_saved {
        if effective == u32::MAX { old[1] } else { effective }
    } else {
        u32::MAX
    };
    change_ids(call, users, [real, effective, saved])
}

pub(super) fn setreuid(call: &mut Call<'_>) -> Outcome {
    set_pair(call, true)
}

pub(super) fn setregid(call: &mut Call<'_>) -> Outcome {
    set_pair(call, false)
}

pub(super) fn setresuid(call: &mut Call<'_>) -> Outcome {
    let new = [call.argument(0) as u32, call.argument(1) as u32, call.argument(2) as u32];
    change_ids(call, true, new)
}

pub(super) fn setresgid(call: &mut Call<'_>) -> Outcome {
    let new = [call.argument(0) as u32, call.argument(1) as u32, call.argument(2) as u32];
    change_ids(call, false, new)
}

fn set_fs_id(call: &Call<'_>, users: bool) -> Outcome {
    let id = call.argument(0) as u32;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let privileged = credentials.has(if users { CAP_SETUID } else { CAP_SETGID });
    let ids = if users { &mut credentials.users } else { &mut credentials.groups };
    let old = ids[3];
    if privileged || ids.contains(&id) {
        ids[3] = id;
        *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    }
    Ok(old.into())
}

pub(super) fn setfsuid(call: &mut Call<'_>) -> Outcome {
    set_fs_id(call, true)
}

pub(super) fn setfsgid(call: &mut Call<'_>) -> Outcome {
    set_fs_id(call, false)
}

pub(super) fn getgroups(call: &mut Call<'_>) -> Outcome {
    let credentials = call.task.credentials();
    let count = credentials.more_groups.len();
    match call.int(0) {
        0 => {}
        size if (size as usize) < count || size < 0 => return Err(Errno::EINVAL.into()),
        _ => guest::write_bytes(
            call.argument(1),
            zerocopy::IntoBytes::as_bytes(credentials.more_groups.as_slice()),
        )?,
    }
    Ok(count as u64)
}

pub(super) fn setgroups(call: &mut Call<'_>) -> Outcome {
    let count = call.argument(0) as usize;
    if !call.task.credentials().has(CAP_SETGID) {
        return Err(Errno::EPERM.into());
    }
    if count > 65_536 {
        return Err(Errno::EINVAL.into());
    }
    let mut groups = alloc::vec![0_u32; count];
    guest::read_bytes(call.argument(1), zerocopy::IntoBytes::as_mut_bytes(groups.as_mut_slice()))?;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    credentials.more_groups = groups;
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}

fn set_limit(process: &Process, index: usize, new: Rlimit, privileged: bool) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let mut limits = process.limits.borrow_mut();
    let place = limits.get_mut(index).ok_or(Errno::EINVAL)?;
    if new.hard > place.hard && !privileged {
        return Err(Errno::EPERM);
    }
    *place = new;
    Ok(())
}

pub(super) fn getrlimit(call: &mut Call<'_>) -> Outcome {
    let index = call.argument(0) as usize;
    if index >= RLIMITS {
        return Err(Errno::EINVAL.into());
    }
    let limit = call
        .task
        .process
        .limits
        .borrow()
        .get(index)
        .copied()
        .unwrap_or(Rlimit { soft: RLIM_INFINITY, hard: RLIM_INFINITY });
    guest::write(call.argument(1), &limit)?;
    Ok(0)
}

pub(super) fn setrlimit(call: &mut Call<'_>) -> Outcome {
    let new: Rlimit = guest::read(call.argument(1))?;
    set_limit(&call.task.process, call.argument(0) as usize, new, false)?;
    Ok(0)
}

pub(super) fn prlimit64(call: &mut Call<'_>) -> Outcome {
    let process = process_or_own(call, call.int(0))?;
    let index = call.argument(1) as usize;
    if index >= RLIMITS {
        return Err(Errno::EINVAL.into());
    }
    let new =
        if call.argument(2) == 0 { None } else { Some(guest::read::<Rlimit>(call.argument(2))?) };
    let old = process.limits.borrow().get(index).copied().unwrap_or_default();
    if let Some(new) = new {
        set_limit(&process, index, new, false)?;
    }
    if call.argument(3) != 0 {
        guest::write(call.argument(3), &old)?;
    }
    Ok(0)
}

pub(super) fn pidfd_open(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(1) as u32;
    if flags & !crate::linux::O_NONBLOCK != 0 || call.int(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let process = call.system.processes.get(call.int(0)).ok_or(Errno::ESRCH)?;
    let file = OpenFile::new(
        Object::Process(process),
        None,
        O_RDWR | flags,
        b"anon_inode:[pidfd]".to_vec(),
    );
    call.install(file, O_CLOEXEC != 0).map_err(Into::into)
}

pub(super) fn pidfd_send_signal(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let Object::Process(process) = &file.object else { return Err(Errno::EBADF.into()) };
    let signo =
        u8::try_from(call.argument(1)).ok().filter(|signo| *signo <= 64).ok_or(Errno::EINVAL)?;
    if matches!(process.life.get(), crate::task::Life::Zombie(_))
        && call.system.processes.get(process.pid).is_none()
    {
        return Err(Errno::ESRCH.into());
    }
    let info = signal::info_from(signo, 0, call.task.process.pid, call.task.credentials().users[0]);
    signal::send_to_process(process, signo, info);
    Ok(0)
}

pub(super) fn arch_prctl(call: &mut Call<'_>) -> Outcome {
    let value = call.argument(1);
    let is_guest = value < kernel_abi::layout::GUEST_MAX;
    match call.argument(0) {
        0x1001 if is_guest => state::set_gs_base(value),
        0x1002 if is_guest => state::set_fs_base(value),
        0x1001 | 0x1002 => return Err(Errno::EPERM.into()),
        0x1003 => guest::write(value, &state::fs_base())?,
        0x1004 => guest::write(value, &state::gs_base())?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// CAP_CHECKPOINT_RESTORE.
const LAST_CAPABILITY: u64 = 40;

pub(super) fn prctl(call: &mut Call<'_>) -> Outcome {
    let process = call.task.process.clone();
    let argument = call.argument(1);
    match call.argument(0) {
        1 => {
            if argument > 64 {
                return Err(Errno::EINVAL.into());
            }
            process.death_signal.set(argument as u8);
        }
        2 => guest::write(argument, &u32::from(process.death_signal.get()))?,
        3 => return Ok(process.is_dumpable.get().into()),
        4 => process.is_dumpable.set(argument != 0),
        // PR_GET_KEEPCAPS, PR_SET_KEEPCAPS; timing, endianness: the only value there is.
        7 => return Ok(0),
        8 if argument == 0 => {}
        15 => {
            let mut name = [0; 16];
            let text = guest::read_string(argument, 255).or_else(|_| {
                guest::read_bytes(argument, &mut name)?;
                Ok::<_, Errno>(name.to_vec())
            })?;
            exec::set_name(call.task, &text);
        }
        16 => guest::write(argument, &call.task.name.get())?,
        // PR_CAPBSET_READ, PR_CAPBSET_DROP.
        23 => {
            if argument > LAST_CAPABILITY {
                return Err(Errno::EINVAL.into());
            }
            return Ok(process.credentials.borrow().bounding >> argument & 1);
        }
        24 if argument <= LAST_CAPABILITY => {
            let mut credentials: Credentials = (*call.task.credentials()).clone();
            credentials.bounding &= !(1 << argument);
            *process.credentials.borrow_mut() = Rc::new(credentials);
        }
        29 | 30 => {}
        36 => process.is_subreaper.set(argument != 0),
        37 => guest::write(argument, &u32::from(process.is_subreaper.get()))?,
        38 if argument == 1 => process.no_new_privileges.set(true),
        39 => return Ok(process.no_new_privileges.get().into()),
        47 => return ambient(call),
        // PR_SET_VMA: names of areas.
        0x5356_4d41 => return Err(Errno::EINVAL.into()),
        _ => {
            crate::gap!(call.system, "prctl");
            return Err(Errno::EINVAL.into());
        }
    }
    Ok(0)
}

/// PR_CAP_AMBIENT: there are no ambient capabilities.
fn ambient(call: &mut Call<'_>) -> Outcome {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    let (operation, capability) = (call.argument(1), call.argument(2));
    let rest_is_zero = call.argument(3) == 0 && call.argument(4) == 0;
    match operation {
        CLEAR_ALL if rest_is_zero && capability == 0 => Ok(0),
        IS_SET | LOWER if rest_is_zero && capability <= LAST_CAPABILITY => Ok(0),
        RAISE if rest_is_zero && capability <= LAST_CAPABILITY => {
            crate::gap!(call.system, "prctl: ambient capabilities");
            Err(Errno::EPERM.into())
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Checks a capability header; the process.
fn capability_header(call: &Call<'_>) -> Result<Rc<Process>, Errno> {
    let [version, pid]: [u32; 2] = guest::read(call.argument(0))?;
    if version != 0x2008_0522 {
        guest::write(call.argument(0), &0x2008_0522_u32)?;
        return if call.argument(1) == 0 { Err(Errno::ESRCH) } else { Err(Errno::EINVAL) };
    }
    process_or_own(call, pid as i32)
}

pub(super) fn capget(call: &mut Call<'_>) -> Outcome {
    let process = match capability_header(call) {
        Err(Errno::ESRCH) if call.argument(1) == 0 => return Ok(0),
        other => other?,
    };
    let credentials = process.credentials.borrow();
    let parts = [credentials.effective, credentials.permitted, credentials.inheritable];
    let words: [u32; 6] =
        core::array::from_fn(|index| (parts[index % 3] >> (32 * (index / 3))) as u32);
    if call.argument(1) != 0 {
        guest::write(call.argument(1), &words)?;
    }
    Ok(0)
}

pub(super) fn capset(call: &mut Call<'_>) -> Outcome {
    capability_header(call)?;
    let words: [u32; 6] = guest::read(call.argument(1))?;
    let part = |index: usize| u64::from(words[index]) | u64::from(words[index + 3]) << 32;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let (effective, permitted, inheritable) = (part(0), part(1), part(2));
    if permitted & !credentials.permitted != 0 || effective & !permitted != 0 {
        return Err(Errno::EPERM.into());
    }
    (credentials.effective, credentials.permitted, credentials.inheritable) =
        (effective, permitted, inheritable);
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}

pub(super) fn rseq(call: &mut Call<'_>) -> Outcome {
    // The C library goes on without; a task that moves between CPUs inside a sequence could not be told.
    crate::gap!(call.system, "rseq");
    Err(Errno::ENOSYS.into())
}

/// Checks that a call of sched(7) names a thread there is; a negative number is no name for some calls.
fn check_scheduled(call: &Call<'_>, negative: Errno) -> Result<(), Errno> {
    match call.int(0) {
        0 => Ok(()),
        tid if tid < 0 => Err(negative),
        tid => call.system.processes.task(tid).map(|_| ()).ok_or(Errno::ESRCH),
    }
}

pub(super) fn sched_setaffinity(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::ESRCH)?;
    let mask: u64 = guest::read(call.argument(2))?;
    if mask & 1 == 0 && mask == 0 {
        return Err(Errno::EINVAL.into());
    }
    crate::gap!(call.system, "sched_setaffinity: the mask is not kept");
    Ok(0)
}

pub(super) fn sched_getaffinity(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::ESRCH)?;
    if call.argument(1) < 8 {
        return Err(Errno::EINVAL.into());
    }
    let cpus = crate::file::proc::cpu_count(&call.system.budget);
    guest::write(call.argument(2), &((1_u64 << cpus) - 1))?;
    Ok(8)
}

pub(super) fn sched_getscheduler(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    Ok(0)
}

pub(super) fn sched_setscheduler(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    match call.argument(1) {
        0 | 3 | 5 => Ok(0),
        1 | 2 => Err(Errno::EPERM.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn sched_getparam(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    guest::write(call.argument(1), &0_u32)?;
    Ok(0)
}

pub(super) fn sched_setparam(call: &mut Call<'_>) -> Outcome {
    let priority: u32 = guest::read(call.argument(1))?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

fn priority_bound(call: &Call<'_>, real_time: u64) -> Outcome {
    match call.argument(0) {
        1 | 2 => Ok(real_time),
        0 | 3 | 5 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn sched_get_priority_max(call: &mut Call<'_>) -> Outcome {
    priority_bound(call, 99)
}

pub(super) fn sched_get_priority_min(call: &mut Call<'_>) -> Outcome {
    priority_bound(call, 1)
}

pub(super) fn sched_rr_get_interval(call: &mut Call<'_>) -> Outcome {
    guest::write(call.argument(1), &Timespec { seconds: 0, nanoseconds: 4_000_000 })?;
    Ok(0)
}

fn priority_target(call: &Call<'_>) -> Result<Rc<Process>, Errno> {
    match call.argument(0) {
        0 => process_or_own(call, call.int(1)),
        1 | 2 => Ok(call.task.process.clone()),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn getpriority(call: &mut Call<'_>) -> Outcome {
    let process = priority_target(call)?;
    Ok((20 - process.nice.get()) as u64)
}

pub(super) fn setpriority(call: &mut Call<'_>) -> Outcome {
    let process = priority_target(call)?;
    let nice = call.int(2).clamp(-20, 19);
    if nice < process.nice.get() {
        return Err(Errno::EACCES.into());
    }
    process.nice.set(nice);
    for task in &*process.tasks.borrow() {
        // Each step of nice is worth a quarter, as in Linux.
        let mut weight = 1000_u64;
        for _ in 0..nice.max(0) {
            weight = weight * 4 / 5;
        }
        let _ = task.thread.set_affinity(u64::MAX, (weight / 10).max(1));
    }
    Ok(0)
}

/// Linux as it is.
const PER_LINUX: u32 = 0;
/// uname(2) tells of a 32-bit machine.
pub(super) const PER_LINUX32: u32 = 8;
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

pub(super) fn personality(call: &mut Call<'_>) -> Outcome {
    let process = &call.task.process;
    let before = process.execution_domain.get();
    let wanted = call.argument(0) as u32;
    if wanted == u32::MAX {
        return Ok(before.into());
    }
    // ADDR_NO_RANDOMIZE changes nothing a program could rely on.
    if !matches!(wanted & !ADDR_NO_RANDOMIZE, PER_LINUX | PER_LINUX32) {
        crate::gap!(call.system, "personality");
        return Err(Errno::EINVAL.into());
    }
    process.execution_domain.set(wanted);
    Ok(before.into())
}

pub(super) fn ioprio_get(_call: &mut Call<'_>) -> Outcome {
    Ok(4)
}

pub(super) fn ioprio_set(_call: &mut Call<'_>) -> Outcome {
    Ok(0)
}

pub(super) fn unshare(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(0);
    if flags & CLONE_NAMESPACES != 0 {
        crate::gap!(call.system, "unshare: new namespaces");
        return Err(Errno::EPERM.into());
    }
    if flags & crate::linux::CLONE_FILES != 0 {
        let own = Rc::new(core::cell::RefCell::new(call.task.files().borrow().clone()));
        *call.task.files.borrow_mut() = own;
    }
    Ok(0)
}
