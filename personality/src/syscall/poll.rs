//! Waiting for several files (poll(2), select(2), epoll(7)).

use super::{Call, Outcome, time};
use crate::{
    file::{
        Object, OpenFile,
        epoll::{self, Epoll},
    },
    linux::{
        EPOLLET, EPOLLEXCLUSIVE, EPOLLWAKEUP, Errno, O_CLOEXEC, O_RDWR, POLLERR, POLLHUP, POLLIN,
        POLLNVAL, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM, RLIMIT_NOFILE, SIGKILL, SIGSTOP,
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

/// Descriptors that are read from the guest at once.
const BATCH: usize = 32;

/// Looks at every descriptor; how many are ready. `each` gets those that are not, with the events to wait for.
fn scan(call: &Call<'_>, mut each: impl FnMut(&Rc<OpenFile>, u32)) -> Result<u64, Errno> {
    let (address, count) = (call.argument(0), call.argument(1));
    let mut ready = 0;
    let mut at = address;
    let mut left = count as usize;
    while left > 0 {
        let mut batch = [Pollfd::default(); BATCH];
        let batch = batch.get_mut(..left.min(BATCH)).unwrap_or_default();
        guest::read_bytes(at, zerocopy::IntoBytes::as_mut_bytes(batch))?;
        for entry in &mut *batch {
            let wanted = u32::from(entry.events) | POLLERR | POLLHUP;
            let found = match call.file_of(entry.fd) {
                _ if entry.fd < 0 => 0,
                Err(_) => POLLNVAL,
                Ok(file) => {
                    let mask = mask_of(call, &file) & wanted;
                    if mask == 0 && ready == 0 {
                        each(&file, wanted);
                    }
                    mask
                }
            };
            entry.revents = found as u16;
            ready += u64::from(found != 0);
        }
        for (index, entry) in batch.iter().enumerate() {
            // Only the answers are written: another thread may change the rest meanwhile.
            guest::write(at.wrapping_add(8 * index as u64 + 6), &entry.revents)?;
        }
        at = at.wrapping_add(8 * batch.len() as u64);
        left -= batch.len();
    }
    Ok(ready)
}

fn poll_until(call: &mut Call<'_>, timeout: Option<u64>) -> Outcome {
    if call.argument(1) > call.task.process.limit(RLIMIT_NOFILE) {
        return Err(Errno::EINVAL.into());
    }
    let limit = deadline(call, timeout);
    let waiter = call.task.waiter();
    let may_wait = limit != 0 && (limit == u64::MAX || rt::clock::now() < limit);
    let mut next = limit;
    let ready = scan(call, |file, events| {
        if may_wait {
            next = next.min(file.watch(waiter, events));
        }
    })?;
    if ready > 0 || !may_wait { Ok(ready) } else { Err(Stop::Wait(next)) }
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
    // Descriptors beyond the table are not looked at.
    let table = call.task.files.borrow().borrow().length().max(64).cast_unsigned();
    let count = count.min(u64::from(table.next_power_of_two()));
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
        let mut asked = 0;
        for (set, class) in found.iter_mut().zip(classes) {
            if let Some(word) = set.get_mut(word).filter(|word| **word & bit != 0) {
                asked |= class;
                if mask & class == 0 {
                    *word &= !bit;
                } else {
                    ready += 1;
                }
            }
        }
        files.push((file, asked));
    }
    let limit = deadline(call, timeout);
    if ready == 0 && rt::clock::now() < limit {
        let waiter = call.task.waiter();
        let next = files.iter().map(|(file, events)| file.watch(waiter, *events)).min();
        return Err(Stop::Wait(limit.min(next.unwrap_or(u64::MAX))));
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
        Object::Epoll(Rc::new(Epoll::default())),
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

/// Files that are always ready cannot be watched.
fn is_pollable(file: &OpenFile) -> bool {
    let is_plain = file.node.as_ref().is_some_and(|node| {
        matches!(node.file_type(), crate::linux::S_IFREG | crate::linux::S_IFDIR)
    });
    !is_plain || !matches!(file.object, Object::Node | Object::Text(_))
}

pub(super) fn epoll_ctl(call: &mut Call<'_>) -> Outcome {
    let operation = call.argument(1);
    let (events, data) = if operation == epoll::DELETE {
        (0, 0)
    } else {
        let bytes: [u8; 12] = guest::read(call.argument(3))?;
        let (events, data) = bytes.split_at(4);
        (
            u32::from_le_bytes(events.try_into().unwrap_or_default()),
            u64::from_le_bytes(data.try_into().unwrap_or_default()),
        )
    };
    let (instance, file) = (call.file(0)?, call.file(2)?);
    if !is_pollable(&file) {
        return Err(Errno::EPERM.into());
    }
    let Object::Epoll(epoll) = &instance.object else { return Err(Errno::EINVAL.into()) };
    let goes_with_exclusive = POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET;
    let is_odd =
        events & EPOLLEXCLUSIVE != 0 && events & !(goes_with_exclusive | EPOLLEXCLUSIVE) != 0;
    if Rc::ptr_eq(&instance, &file) || is_odd && operation != epoll::DELETE {
        return Err(Errno::EINVAL.into());
    }
    let poll = |file: &OpenFile| mask_of(call, file);
    let added = epoll.control(operation, call.int(2), &file, events, data, &poll)?;
    if let (Some(observer), Object::Signal(_)) = (added, &file.object) {
        call.task.pending.borrow().observers.observe(observer.clone());
        call.task.process.pending.borrow().observers.observe(observer);
    }
    Ok(0)
}

/// Size of a `struct epoll_event`, which is packed.
const EVENT: usize = 12;
/// Most events of one wait.
const MAX_EVENTS: usize = 1 << 20;

fn wait_until(call: &mut Call<'_>, timeout: Option<u64>) -> Outcome {
    let instance = call.file(0)?;
    let count = call.int(2);
    if count <= 0 || count > i32::MAX / EVENT as i32 {
        return Err(Errno::EINVAL.into());
    }
    guest::check(call.argument(1), (count as usize * EVENT) as u64)?;
    let Object::Epoll(epoll) = &instance.object else { return Err(Errno::EINVAL.into()) };
    let next = epoll.tick();
    let limit = (count as usize).min(MAX_EVENTS);
    let mut at = call.argument(1);
    let ready = epoll.take_ready(limit, &|file| mask_of(call, file), |events, data| {
        let [low, high] = [data as u32, (data >> 32) as u32];
        guest::write(at, &[events, low, high])?;
        at += EVENT as u64;
        Ok(())
    })?;
    if ready > 0 {
        return Ok(ready as u64);
    }
    let limit = deadline(call, timeout);
    if limit == 0 || limit != u64::MAX && rt::clock::now() >= limit {
        return Ok(0);
    }
    epoll.join(call.task.waiter());
    Err(Stop::Wait(limit.min(next)))
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
