//! Processes (clone(2), execve(2), wait(2), exit(2), credentials(7), setpgid(2), prctl(2), futex(2), sched(7)).

use super::{Call, Outcome, identity::ambient, time};
use crate::{
    file::{Object, OpenFile, path},
    linux::{
        ADDR_NO_RANDOMIZE, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, CLD_CONTINUED, CLD_EXITED,
        CLD_KILLED, CLD_STOPPED, CLONE_NAMESPACES, CLONE_VFORK, CLONE_VM, Errno, O_CLOEXEC, O_RDWR,
        SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WUNTRACED,
        layouts::{CloneArgs, Siginfo},
    },
    machine::{guest, state},
    task::{Process, credentials::Credentials, exec, exit, fork, signal},
    wait::{Stop, WAIT},
};
use alloc::{rc::Rc, vec::Vec};

/// Bytes of one argument or environment string of execve(2), its end among them.
const MAX_STRING: usize = 1 << 17;

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

/// Reads an array of strings that ends with a null pointer; what they take goes from the room for them.
fn strings(address: u64, room: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::new();
    let mut at = address;
    while at != 0 {
        let pointer: u64 = guest::read(at)?;
        if pointer == 0 {
            break;
        }
        let text = guest::read_string(pointer, MAX_STRING - 1)
            .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::ETOOBIG } else { errno })?;
        // With the pointer to it.
        *room = room.checked_sub(text.len() as u64 + 9).ok_or(Errno::ETOOBIG)?;
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
    let mut room = exec::room_for_strings(&process);
    let mut arguments = strings(arguments, &mut room)?;
    let environment = strings(environment, &mut room)?;
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
            crate::machine::attached::attach(&memory)?;
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

pub(super) fn process_or_own(call: &Call<'_>, pid: i32) -> Result<Rc<Process>, Errno> {
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
pub(super) const LAST_CAPABILITY: u64 = 40;

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

pub(super) fn rseq(call: &mut Call<'_>) -> Outcome {
    // The C library goes on without; a task that moves between CPUs inside a sequence could not be told.
    crate::gap!(call.system, "rseq");
    Err(Errno::ENOSYS.into())
}

/// Linux as it is.
const PER_LINUX: u32 = 0;
/// uname(2) tells of a 32-bit machine.
pub(super) const PER_LINUX32: u32 = 8;

pub(super) fn personality(call: &mut Call<'_>) -> Outcome {
    let process = &call.task.process;
    let before = process.execution_domain.get();
    let wanted = call.argument(0) as u32;
    if wanted == u32::MAX {
        return Ok(before.into());
    }
    if !matches!(wanted & !ADDR_NO_RANDOMIZE, PER_LINUX | PER_LINUX32) {
        crate::gap!(call.system, "personality");
        return Err(Errno::EINVAL.into());
    }
    process.execution_domain.set(wanted);
    Ok(before.into())
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
