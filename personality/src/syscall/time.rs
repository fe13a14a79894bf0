//! Time (clock_gettime(2), nanosleep(2), setitimer(2), timer_create(2), getrusage(2)).

use super::{Call, Outcome};
use crate::{
    linux::{
        CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
        CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_THREAD_CPUTIME_ID,
        Errno, SIGALRM, TIMER_ABSTIME,
        layouts::{Itimerspec, Itimerval, Rusage, Timespec, Timeval, Tms},
    },
    machine::guest,
    session,
    system::time,
    task::signal::PosixTimer,
    wait::Stop,
};
use alloc::rc::Rc;
use core::cell::Cell;

const SECOND: u64 = 1_000_000_000;
/// CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM, CLOCK_TAI.
const CLOCK_TAI: u64 = 11;

/// The bit of a clock's number that makes it a thread's.
const CPUCLOCK_PERTHREAD: u64 = 4;

/// Whether a clock shows the CPU time of the caller's process: by its own number, or by the number of the process.
fn is_own_cpu_time(call: &Call<'_>, id: u64) -> bool {
    let pid = !(id as i32 >> 3);
    id == CLOCK_PROCESS_CPUTIME_ID
        || (id as i32) < 0
            && id & CPUCLOCK_PERTHREAD == 0
            && (pid == 0 || pid == call.task.process.pid)
}

/// Nanoseconds that a clock shows.
fn clock(call: &Call<'_>, id: u64) -> Result<u64, Errno> {
    Ok(match id {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => time::now(),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => {
            rt::clock::since_boot()
        }
        CLOCK_PROCESS_CPUTIME_ID => rt::clock::nanoseconds(call.task.process.cpu_time().0),
        CLOCK_THREAD_CPUTIME_ID => {
            rt::clock::nanoseconds(call.task.thread.stat().map_or(0, |(used, ..)| used))
        }
        // Clocks of threads, by number (pthread_getcpuclockid(3)): only of one's own process.
        id if (id as i32) < 0 && id & CPUCLOCK_PERTHREAD != 0 => {
            let task = match !(id as i32 >> 3) {
                0 => call.task.clone(),
                tid => call.system.processes.task(tid).ok_or(Errno::EINVAL)?,
            };
            if task.process.pid != call.task.process.pid {
                return Err(Errno::EINVAL);
            }
            rt::clock::nanoseconds(task.thread.stat().map_or(0, |(used, ..)| used))
        }
        // Clocks of processes, by number (clock_getcpuclockid(3)).
        id if (id as i32) < 0 => {
            let pid = !(id as i32 >> 3);
            let process = if pid == 0 {
                Some(call.task.process.clone())
            } else {
                call.system.processes.get(pid)
            };
            rt::clock::nanoseconds(process.ok_or(Errno::EINVAL)?.cpu_time().0)
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// Checks a time and makes nanoseconds of it.
pub(super) fn duration(time: &Timespec) -> Result<u64, Errno> {
    if time.seconds < 0 || !(0..SECOND as i64).contains(&time.nanoseconds) {
        return Err(Errno::EINVAL);
    }
    Ok((time.seconds as u64).saturating_mul(SECOND).saturating_add(time.nanoseconds as u64))
}

/// The deadline (TSC) for a time on a clock.
pub(super) fn deadline_at(id: u64, nanoseconds: u64) -> u64 {
    let now = match id {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => time::now(),
        _ => rt::clock::since_boot(),
    };
    rt::clock::now().saturating_add(rt::clock::ticks(nanoseconds.saturating_sub(now)))
}

/// The deadline (TSC) for a length of time since the call began.
pub(super) fn deadline_after(call: &Call<'_>, nanoseconds: u64) -> u64 {
    call.task.call_begun().saturating_add(rt::clock::ticks(nanoseconds))
}

pub(super) fn clock_gettime(call: &mut Call<'_>) -> Outcome {
    let now = clock(call, call.argument(0))?;
    guest::write(call.argument(1), &time::timespec(now))?;
    Ok(0)
}

pub(super) fn clock_getres(call: &mut Call<'_>) -> Outcome {
    clock(call, call.argument(0))?;
    if call.argument(1) != 0 {
        guest::write(call.argument(1), &Timespec { seconds: 0, nanoseconds: 1 })?;
    }
    Ok(0)
}

pub(super) fn gettimeofday(call: &mut Call<'_>) -> Outcome {
    let now = time::now();
    if call.argument(0) != 0 {
        guest::write(call.argument(0), &timeval(now))?;
    }
    if call.argument(1) != 0 {
        guest::write(call.argument(1), &[0_u32; 2])?;
    }
    Ok(0)
}

pub(super) fn time(call: &mut Call<'_>) -> Outcome {
    let seconds = time::now() / SECOND;
    if call.argument(0) != 0 {
        guest::write(call.argument(0), &seconds)?;
    }
    Ok(seconds)
}

const fn timeval(nanoseconds: u64) -> Timeval {
    Timeval {
        seconds: (nanoseconds / SECOND) as i64,
        microseconds: (nanoseconds % SECOND / 1000) as i64,
    }
}

fn from_timeval(value: &Timeval) -> Result<u64, Errno> {
    if value.seconds < 0 || !(0..1_000_000).contains(&value.microseconds) {
        return Err(Errno::EINVAL);
    }
    Ok((value.seconds as u64)
        .saturating_mul(SECOND)
        .saturating_add(value.microseconds as u64 * 1000))
}

fn sleep(deadline: u64, remaining: u64) -> Outcome {
    let now = rt::clock::now();
    if now >= deadline {
        return Ok(0);
    }
    if remaining != 0 {
        // Written ahead of an interruption, which ends the call without coming back here.
        guest::write(remaining, &time::timespec(rt::clock::nanoseconds(deadline - now)))?;
    }
    Err(Stop::Wait(deadline))
}

pub(super) fn nanosleep(call: &mut Call<'_>) -> Outcome {
    let wanted = duration(&guest::read(call.argument(0))?)?;
    sleep(deadline_after(call, wanted), call.argument(1))
}

pub(super) fn clock_nanosleep(call: &mut Call<'_>) -> Outcome {
    let id = call.argument(0);
    if !matches!(
        id,
        CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI | CLOCK_PROCESS_CPUTIME_ID
    ) {
        return Err(Errno::EINVAL.into());
    }
    let wanted = duration(&guest::read(call.argument(2))?)?;
    if call.argument(1) & TIMER_ABSTIME != 0 {
        call.task.call_begun();
        return sleep(deadline_at(id, wanted), 0);
    }
    sleep(deadline_after(call, wanted), call.argument(3))
}

pub(super) fn times(call: &mut Call<'_>) -> Outcome {
    const TICK: u64 = SECOND / 100;
    let (used, guest_time) = call.task.process.cpu_time();
    let ticks = |time: u64| (rt::clock::nanoseconds(time) / TICK) as i64;
    let guest_time = guest_time.max(used);
    if call.argument(0) != 0 {
        let children = call.task.process.children_time.get();
        let times = Tms {
            utime: ticks(guest_time),
            stime: ticks(used.saturating_sub(guest_time)),
            cutime: ticks(children / 2),
            cstime: ticks(children / 2),
        };
        guest::write(call.argument(0), &times)?;
    }
    Ok(rt::clock::since_boot() / TICK)
}

/// Time used in the form of getrusage(2).
pub(super) fn usage(used: u64, guest_time: u64) -> Rusage {
    // The personality is a program in user mode like its guest: what is not known to be the system's is the user's.
    let _ = guest_time;
    Rusage {
        utime: timeval(rt::clock::nanoseconds(used)),
        stime: timeval(0),
        maxrss: 0,
        rest: [0; 13],
    }
}

pub(super) fn getrusage(call: &mut Call<'_>) -> Outcome {
    let (used, guest_time) = match call.int(0) {
        0 => call.task.process.cpu_time(),
        -1 => (call.task.process.children_time.get(), call.task.process.children_time.get() / 2),
        1 => call.task.thread.stat().map_or((0, 0), |(used, _, guest_time)| (used, guest_time)),
        _ => return Err(Errno::EINVAL.into()),
    };
    guest::write(call.argument(1), &usage(used, guest_time))?;
    Ok(0)
}

/// Sets the real-time interval timer; what was left of the old one, and its interval, in nanoseconds.
fn set_alarm(call: &Call<'_>, value: u64, interval: u64) -> (u64, u64) {
    let process = &call.task.process;
    let before = left_of_alarm(call);
    let next =
        if value == 0 { 0 } else { rt::clock::now().saturating_add(rt::clock::ticks(value)) };
    process.alarm.set((next, rt::clock::ticks(interval)));
    if next != 0 {
        session::arm_timers(call.system, next);
    }
    before
}

/// Sets ITIMER_VIRTUAL or ITIMER_PROF; what was left of the old one, and its interval, in nanoseconds. All CPU time is user time, as in getrusage.
fn set_cpu_alarm(call: &Call<'_>, which: usize, value: u64, interval: u64) -> (u64, u64) {
    let process = &call.task.process;
    let before = left_of_cpu_alarm(call, which);
    let ticks = rt::clock::ticks(value);
    let at = if value == 0 { 0 } else { process.cpu_time().0.saturating_add(ticks) };
    if let Some(alarm) = process.cpu_alarms.get(which) {
        alarm.set((at, rt::clock::ticks(interval)));
    }
    if at != 0 {
        session::arm_timers(call.system, session::look_at(process, rt::clock::now(), ticks));
    }
    before
}

fn left_of_cpu_alarm(call: &Call<'_>, which: usize) -> (u64, u64) {
    let process = &call.task.process;
    let (at, interval) = process.cpu_alarms.get(which).map_or((0, 0), Cell::get);
    let left = if at == 0 {
        0
    } else {
        rt::clock::nanoseconds(at.saturating_sub(process.cpu_time().0)).max(1000)
    };
    (left, rt::clock::nanoseconds_asked(interval))
}

fn left_of_alarm(call: &Call<'_>) -> (u64, u64) {
    let (next, interval) = call.task.process.alarm.get();
    let left = if next == 0 {
        0
    } else {
        rt::clock::nanoseconds(next.saturating_sub(rt::clock::now())).max(1000)
    };
    (left, rt::clock::nanoseconds_asked(interval))
}

pub(super) fn alarm(call: &mut Call<'_>) -> Outcome {
    let (left, _) = set_alarm(call, (call.argument(0) & 0xffff_ffff) * SECOND, 0);
    Ok(left.div_ceil(SECOND))
}

pub(super) fn setitimer(call: &mut Call<'_>) -> Outcome {
    let value: Itimerval =
        if call.argument(1) == 0 { Itimerval::default() } else { guest::read(call.argument(1))? };
    let (next, interval) = (from_timeval(&value.value)?, from_timeval(&value.interval)?);
    let (left, old) = match call.argument(0) {
        0 => set_alarm(call, next, interval),
        which @ (1 | 2) => set_cpu_alarm(call, which as usize - 1, next, interval),
        _ => return Err(Errno::EINVAL.into()),
    };
    if call.argument(2) != 0 {
        guest::write(
            call.argument(2),
            &Itimerval { interval: timeval(old), value: timeval(left) },
        )?;
    }
    Ok(0)
}

pub(super) fn getitimer(call: &mut Call<'_>) -> Outcome {
    let (left, interval) = match call.argument(0) {
        0 => left_of_alarm(call),
        which @ (1 | 2) => left_of_cpu_alarm(call, which as usize - 1),
        _ => return Err(Errno::EINVAL.into()),
    };
    guest::write(
        call.argument(1),
        &Itimerval { interval: timeval(interval), value: timeval(left) },
    )?;
    Ok(0)
}

pub(super) fn timer_create(call: &mut Call<'_>) -> Outcome {
    let id = match call.argument(0) {
        id if is_own_cpu_time(call, id) => CLOCK_PROCESS_CPUTIME_ID,
        id => id,
    };
    if !matches!(id, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_PROCESS_CPUTIME_ID) {
        clock(call, id)?;
        crate::gap!(call.system, "timer_create: CPU time of a thread or of another process");
        return Err(Errno::EOPNOTSUPP.into());
    }
    let timers = call.task.process.timers.borrow();
    let number = (0..).find(|number| !timers.contains_key(number)).unwrap_or(0);
    drop(timers);
    let (value, signo, notify, tid) = if call.argument(1) == 0 {
        (number as u64, SIGALRM, 0, 0)
    } else {
        let words: [u64; 3] = guest::read(call.argument(1))?;
        (words[0], words[1] as u8, (words[1] >> 32) as u32, words[2] as i32)
    };
    let (signo, tid) = match notify {
        0 => (signo, 0),
        1 => (0, 0),
        4 => (signo, tid),
        _ => return Err(Errno::EINVAL.into()),
    };
    if notify != 1 && !(1..=64).contains(&signo) {
        return Err(Errno::EINVAL.into());
    }
    let timer = PosixTimer {
        clock: id,
        signo,
        tid,
        value,
        id: number,
        next: Cell::new((0, 0)),
        overrun: Cell::new(0),
    };
    guest::write(call.argument(2), &number)?;
    call.task.process.timers.borrow_mut().insert(number, Rc::new(timer));
    Ok(0)
}

fn timer(call: &Call<'_>) -> Result<Rc<PosixTimer>, Errno> {
    call.task.process.timers.borrow().get(&call.int(0)).cloned().ok_or(Errno::EINVAL)
}

/// What a timer's expirations are compared with, in ticks.
fn timer_clock(call: &Call<'_>, timer: &PosixTimer) -> u64 {
    if timer.clock == CLOCK_PROCESS_CPUTIME_ID {
        call.task.process.cpu_time().0
    } else {
        rt::clock::now()
    }
}

fn timer_value(call: &Call<'_>, timer: &PosixTimer) -> Itimerspec {
    let (next, interval) = timer.next.get();
    let left = if next == 0 {
        0
    } else {
        rt::clock::nanoseconds(next.saturating_sub(timer_clock(call, timer))).max(1)
    };
    Itimerspec {
        interval: time::timespec(rt::clock::nanoseconds_asked(interval)),
        value: time::timespec(left),
    }
}

pub(super) fn timer_settime(call: &mut Call<'_>) -> Outcome {
    let timer = timer(call)?;
    let new: Itimerspec = guest::read(call.argument(2))?;
    let (value, interval) = (duration(&new.value)?, duration(&new.interval)?);
    if call.argument(3) != 0 {
        guest::write(call.argument(3), &timer_value(call, &timer))?;
    }
    let is_absolute = call.argument(1) & TIMER_ABSTIME != 0;
    let is_cpu_time = timer.clock == CLOCK_PROCESS_CPUTIME_ID;
    let next = match (value, is_absolute, is_cpu_time) {
        (0, ..) => 0,
        (_, true, true) => rt::clock::ticks(value),
        (_, true, false) => deadline_at(timer.clock, value),
        (_, false, _) => timer_clock(call, &timer).saturating_add(rt::clock::ticks(value)),
    };
    timer.next.set((next, rt::clock::ticks(interval)));
    timer.overrun.set(0);
    if next != 0 {
        let look = if is_cpu_time {
            let left = next.saturating_sub(timer_clock(call, &timer));
            session::look_at(&call.task.process, rt::clock::now(), left)
        } else {
            next
        };
        session::arm_timers(call.system, look);
    }
    Ok(0)
}

pub(super) fn timer_gettime(call: &mut Call<'_>) -> Outcome {
    let timer = timer(call)?;
    guest::write(call.argument(1), &timer_value(call, &timer))?;
    Ok(0)
}

pub(super) fn timer_getoverrun(call: &mut Call<'_>) -> Outcome {
    Ok(timer(call)?.overrun.get())
}

pub(super) fn timer_delete(call: &mut Call<'_>) -> Outcome {
    call.task.process.timers.borrow_mut().remove(&call.int(0)).ok_or(Errno::EINVAL)?;
    Ok(0)
}
