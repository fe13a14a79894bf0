//! The timers' thread: alarms and POSIX timers fire when they are due.
//!
//! A timer of CPU time is looked at when it could be due at the earliest: if all tasks of its process had computed since. So an idle process costs a look now and
//! then, and a busy one no counting.

use crate::{
    linux::{CLOCK_PROCESS_CPUTIME_ID, SIGALRM, SIGPROF, SIGVTALRM},
    system::{SYSTEM, System},
    task::{Process, signal},
};
use alloc::{rc::Rc, vec::Vec};

/// Least time between two looks at a timer of CPU time, in nanoseconds: Linux's tick.
const LOOK: u64 = 4_000_000;

/// Makes sure that the timers' thread looks at a time.
pub fn arm_timers(system: &System, next: u64) {
    if let Some(thread) = system.timer_thread.get() {
        if next < system.timer_next.get() {
            system.timer_next.set(next);
            let _ = thread.unpark();
        }
        return;
    }
    system.timer_next.set(next);
    if let Ok(thread) = rt::thread::spawn(false, timers) {
        system.timer_thread.set(Some(thread));
    }
}

/// The timers' thread: fires what is due, sleeps until the next.
fn timers() {
    loop {
        let next = SYSTEM.with(|system| {
            let next = fire(system, rt::clock::now());
            system.timer_next.set(next);
            next
        });
        let _ = rt::thread::park_until(next.unwrap_or(u64::MAX));
    }
}

/// When a timer of CPU time must be looked at that has this much to go.
pub fn look_at(process: &Process, now: u64, left: u64) -> u64 {
    let tasks = (process.tasks.borrow().len() as u64).max(1);
    now.saturating_add((left / tasks).max(rt::clock::ticks(LOOK)))
}

/// The expiration after one that is due, and how many more were missed.
fn advance(at: u64, interval: u64, now: u64) -> (u64, u64) {
    let missed = now.saturating_sub(at).checked_div(interval).unwrap_or(0);
    let after = if interval == 0 {
        0
    } else {
        at.saturating_add(interval.saturating_mul(missed.saturating_add(1)))
    };
    (after, missed)
}

/// Fires the timers of CPU time of a process; when they must be looked at again.
fn fire_cpu_alarms(process: &Rc<Process>, now: u64) -> u64 {
    let mut next = u64::MAX;
    for (alarm, signo) in process.cpu_alarms.iter().zip([SIGVTALRM, SIGPROF]) {
        let (at, interval) = alarm.get();
        if at == 0 {
            continue;
        }
        let used = process.cpu_time().0;
        if at <= used {
            alarm.set((advance(at, interval, used).0, interval));
            signal::send_to_process(process, signo, signal::info_from_kernel(signo));
        }
        if alarm.get().0 != 0 {
            next = next.min(look_at(process, now, alarm.get().0.saturating_sub(used)));
        }
    }
    next
}

/// Fires every timer that is due; when the next is.
fn fire(system: &System, now: u64) -> u64 {
    let mut next = u64::MAX;
    for process in system.processes.all() {
        let (at, interval) = process.alarm.get();
        if at != 0 && at <= now {
            process.alarm.set((advance(at, interval, now).0, interval));
            signal::send_to_process(&process, SIGALRM, signal::info_from_kernel(SIGALRM));
        }
        if process.alarm.get().0 != 0 {
            next = next.min(process.alarm.get().0);
        }
        next = next.min(fire_cpu_alarms(&process, now));
        let timers: Vec<_> = process.timers.borrow().values().cloned().collect();
        for timer in timers {
            next = next.min(fire_timer(system, &process, &timer, now));
        }
    }
    next
}

fn fire_timer(system: &System, process: &Rc<Process>, timer: &signal::PosixTimer, now: u64) -> u64 {
    let (at, interval) = timer.next.get();
    let is_cpu_time = timer.clock == CLOCK_PROCESS_CPUTIME_ID;
    let clock = if is_cpu_time && at != 0 { process.cpu_time().0 } else { now };
    if at != 0 && at <= clock {
        let (after, missed) = advance(at, interval, clock);
        timer.next.set((after, interval));
        timer.overrun.set(missed);
        if timer.signo != 0 {
            let mut info = signal::info_from(timer.signo, crate::linux::SI_TIMER, 0, 0);
            info.fields[0] = u64::from(timer.id.cast_unsigned()) | missed << 32;
            info.fields[1] = timer.value;
            match system.processes.task(timer.tid) {
                Some(task) if timer.tid != 0 => signal::send_to_task(&task, timer.signo, info),
                _ => signal::send_to_process(process, timer.signo, info),
            }
        }
    }
    match timer.next.get().0 {
        0 => u64::MAX,
        at if is_cpu_time => look_at(process, now, at.saturating_sub(clock)),
        at => at,
    }
}
