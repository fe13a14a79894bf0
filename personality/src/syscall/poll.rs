//! Waiting for several files (poll(2), select(2), epoll(7)).

use super::{Call, Outcome, time};
use crate::{
    file::{Object, OpenFile, epoll::Epoll},
    linux::{
        Errno, O_CLOEXEC, O_RDWR, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDNORM,
        POLLWRNORM, RLIMIT_NOFILE, SIGKILL, SIGSTOP,
        layouts::{Pollfd, Timespec, Timeval},
    },
    machine::guest,
    task::signal,
    wait::Stop,
};
use alloc::{rc::Rc, vec::Vec};

/// Descriptors that select(2) can name.
const FD_SETSIZE: u64 = 1024;

/// Changes the mask for the length of the call.
fn set_mask(call: &Call<'_>, address: u64, size: u64) -> Result<(), Errno> {
    if address == 0 || call.task.saved_mask.get().is_some() {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = guest::read(address)?;
    call.task.saved_mask.set(Some(call.task.mask.get()));
    call.task.mask.set(mask & !(signal::bit(SIGKILL) | signal::bit(SIGSTOP)));
    if signal::deliverable(call.task) != 0 {
        call.task.has_work.set(true);
    }
    Ok(())
}

/// What a file says, signalfd included.
fn mask_of(call: &Call<'_>, file: &OpenFile) -> u32 {
    match &file.object {
        Object::Signal(mask) => super::signals::poll_signalfd(call, mask.get()),
        _ => file.poll(),
    }
}

/// When to give up: `None` waits for ever, zero looks once.
fn deadline(call: &Call<'_>, timeout: Option<u64>) -> u64 {
    match timeout {
        None => u64::MAX,
        Some(0) => 0,
        Some(nanoseconds) => time::deadline_after(call, nanoseconds),
    }
}

fn poll_until(call: &mut Call<'_>, timeout: Option<u64>) -> Outcome {
    let (address, count) = (call.argument(0), call.argument(1));
    if count > call.task.process.limit(RLIMIT_NOFILE) {
        return Err(Errno::EINVAL.into());
    }
    let mut ready = 0;
    let mut files: Vec<Rc<OpenFile>> = Vec::new();
    for index in 0..count {
        let at = address + 8 * index;
        let wanted: Pollfd = guest::read(at)?;
        let found = if wanted.fd < 0 {
            0
        } else {
            match call.file_of(wanted.fd) {
                Ok(file) => {
                    let mask =
                        mask_of(call, &file) & (u32::from(wanted.events) | POLLERR | POLLHUP);
                    files.push(file);
                    mask
                }
                Err(_) => POLLNVAL,
            }
        };
        guest::write(at + 6, &(found as u16))?;
        ready += u64::from(found != 0);
    }
    let limit = deadline(call, timeout);
    if ready > 0 || rt::clock::now() >= limit {
        return Ok(ready);
    }
    let waiter = call.task.waiter();
    let next = files.iter().map(|file| file.watch(waiter)).min().unwrap_or(u64::MAX);
    Err(Stop::Wait(limit.min(next)))
}

pub(super) fn poll(call: &mut Call<'_>) -> Outcome {
    let milliseconds = call.int(2);
    poll_until(call, u64::try_from(milliseconds).ok().map(|milliseconds| milliseconds * 1_000_000))
}

fn timeout_of(address: u64) -> Result<Option<u64>, Errno> {
    if address == 0 {
        return Ok(None);
    }
    time::duration(&guest::read::<Timespec>(address)?).map(Some)
}

pub(super) fn ppoll(call: &mut Call<'_>) -> Outcome {
    let timeout = timeout_of(call.argument(2))?;
    set_mask(call, call.argument(3), call.argument(4))?;
    poll_until(call, timeout)
}

fn select_until(call: &mut Call<'_>, timeout: Option<u64>) -> Outcome {
    let count = call.argument(0);
    if count as i32 <= -1 || count > FD_SETSIZE * 64 {
        return Err(Errno::EINVAL.into());
    }
    let words = count.div_ceil(64) as usize;
    let mut wanted = [const { Vec::<u64>::new() }; 3];
    for (index, set) in wanted.iter_mut().enumerate() {
        *set = alloc::vec![0; words];
        let address = call.argument(index + 1);
        if address != 0 {
            guest::read_bytes(address, zerocopy::IntoBytes::as_mut_bytes(set.as_mut_slice()))?;
        }
    }
    let mut found = wanted.clone();
    let mut ready = 0;
    let mut files = Vec::new();
    for fd in 0..count {
        let (word, bit) = ((fd / 64) as usize, 1_u64 << (fd % 64));
        if !wanted.iter().any(|set| set.get(word).is_some_and(|word| word & bit != 0)) {
            continue;
        }
        let file = call.file_of(fd as i32)?;
        let mask = mask_of(call, &file);
        let classes =
            [POLLIN | POLLRDNORM | POLLHUP | POLLERR, POLLOUT | POLLWRNORM | POLLERR, POLLPRI];
        for (set, class) in found.iter_mut().zip(classes) {
            if let Some(word) = set.get_mut(word).filter(|word| **word & bit != 0) {
                if mask & class == 0 {
                    *word &= !bit;
                } else {
                    ready += 1;
                }
            }
        }
        files.push(file);
    }
    let limit = deadline(call, timeout);
    if ready == 0 && rt::clock::now() < limit {
        let waiter = call.task.waiter();
        let next = files.iter().map(|file| file.watch(waiter)).min().unwrap_or(u64::MAX);
        return Err(Stop::Wait(limit.min(next)));
    }
    for (index, set) in found.iter().enumerate() {
        let address = call.argument(index + 1);
        if address != 0 {
            guest::write_bytes(address, zerocopy::IntoBytes::as_bytes(set.as_slice()))?;
        }
    }
    Ok(ready)
}

pub(super) fn select(call: &mut Call<'_>) -> Outcome {
    let timeout = match call.argument(4) {
        0 => None,
        at => {
            let value: Timeval = guest::read(at)?;
            if value.seconds < 0 || value.microseconds < 0 {
                return Err(Errno::EINVAL.into());
            }
            Some(
                (value.seconds as u64)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(value.microseconds as u64 * 1000),
            )
        }
    };
    select_until(call, timeout)
}

pub(super) fn pselect6(call: &mut Call<'_>) -> Outcome {
    let timeout = timeout_of(call.argument(4))?;
    if call.argument(5) != 0 {
        let [address, size]: [u64; 2] = guest::read(call.argument(5))?;
        set_mask(call, address, size)?;
    }
    select_until(call, timeout)
}

fn create(call: &Call<'_>, close_on_exec: bool) -> Outcome {
    let file = OpenFile::new(
        Object::Epoll(Epoll::default()),
        None,
        O_RDWR,
        b"anon_inode:[eventpoll]".to_vec(),
    );
    call.install(file, close_on_exec).map_err(Into::into)
}

pub(super) fn epoll_create(call: &mut Call<'_>) -> Outcome {
    if call.int(0) <= 0 { Err(Errno::EINVAL.into()) } else { create(call, false) }
}

pub(super) fn epoll_create1(call: &mut Call<'_>) -> Outcome {
    let flags = call.argument(0) as u32;
    if flags & !O_CLOEXEC != 0 { Err(Errno::EINVAL.into()) } else { create(call, flags != 0) }
}

pub(super) fn epoll_ctl(call: &mut Call<'_>) -> Outcome {
    let instance = call.file(0)?;
    let file = call.file(2)?;
    let Object::Epoll(epoll) = &instance.object else { return Err(Errno::EINVAL.into()) };
    if Rc::ptr_eq(&instance, &file) {
        return Err(Errno::EINVAL.into());
    }
    let is_plain = matches!(file.object, Object::Node | Object::Text(_))
        && file.node.as_ref().is_some_and(|node| {
            matches!(node.file_type(), crate::linux::S_IFREG | crate::linux::S_IFDIR)
        });
    if is_plain {
        return Err(Errno::EPERM.into());
    }
    let (events, data) = if call.argument(1) == crate::file::epoll::DELETE {
        (0, 0)
    } else {
        let bytes: [u8; 12] = guest::read(call.argument(3))?;
        let (events, data) = bytes.split_at(4);
        (
            u32::from_le_bytes(events.try_into().unwrap_or_default()),
            u64::from_le_bytes(data.try_into().unwrap_or_default()),
        )
    };
    epoll.control(call.argument(1), call.int(2), &file, events, data)?;
    Ok(0)
}

fn wait_until(call: &mut Call<'_>, timeout: Option<u64>) -> Outcome {
    let instance = call.file(0)?;
    let Object::Epoll(epoll) = &instance.object else { return Err(Errno::EINVAL.into()) };
    let count = call.int(2);
    if count <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let limit = deadline(call, timeout);
    let may_wait = rt::clock::now() < limit;
    let waiter = may_wait.then(|| call.task.waiter());
    let (ready, next) = epoll.ready((count as usize).min(1024), waiter);
    if ready.is_empty() {
        return if may_wait { Err(Stop::Wait(limit.min(next))) } else { Ok(0) };
    }
    let mut out = Vec::with_capacity(12 * ready.len());
    for (events, data) in &ready {
        out.extend_from_slice(&events.to_le_bytes());
        out.extend_from_slice(&data.to_le_bytes());
    }
    guest::write_bytes(call.argument(1), &out)?;
    Ok(ready.len() as u64)
}

fn milliseconds(value: i32) -> Option<u64> {
    u64::try_from(value).ok().map(|milliseconds| milliseconds * 1_000_000)
}

pub(super) fn epoll_wait(call: &mut Call<'_>) -> Outcome {
    let timeout = milliseconds(call.int(3));
    wait_until(call, timeout)
}

pub(super) fn epoll_pwait(call: &mut Call<'_>) -> Outcome {
    set_mask(call, call.argument(4), call.argument(5))?;
    let timeout = milliseconds(call.int(3));
    wait_until(call, timeout)
}

pub(super) fn epoll_pwait2(call: &mut Call<'_>) -> Outcome {
    let timeout = timeout_of(call.argument(3))?;
    set_mask(call, call.argument(4), call.argument(5))?;
    wait_until(call, timeout)
}
