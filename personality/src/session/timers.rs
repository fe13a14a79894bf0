//! The timers' thread: alarms and POSIX timers fire when they are due, and processes are held to their CPU time.
//!
//! A thread that computes alone is not interrupted for the sake of its account: who wants to know its time asks first, and looks a moment later.
//! A timer of CPU time is looked at when it could be due at the earliest: if all tasks of its process had computed since. So an idle process costs a look now and
//! then, and a busy one no counting.

use crate::{
    linux::{
        CLOCK_PROCESS_CPUTIME_ID, RLIM_INFINITY, RLIMIT_CPU, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM,
        SIGXCPU,
    },
    system::{SYSTEM, System},
    task::{Life, Process, signal},
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

/// Makes sure that a process which has a limit of CPU time is held to it.
pub fn watch_cpu_limit(system: &System, process: &Process) {
    let soft = process.limit(RLIMIT_CPU);
    if soft != RLIM_INFINITY {
        let now = rt::clock::now();
        arm_timers(system, look_at(process, now, left_of(soft, process.cpu_time().0)));
    }
}

/// What is left of a limit in seconds, in ticks: 0 when it is reached.
fn left_of(limit: u64, used: u64) -> u64 {
    rt::clock::ticks(limit.saturating_mul(1_000_000_000)).saturating_sub(used)
}

/// Holds a process to its limit of CPU time (getrlimit(2)): SIGXCPU at the soft one, which then moves a second on, and SIGKILL at the hard one. When it must be
/// looked at again.
fn hold_to_cpu_limit(process: &Rc<Process>, now: u64) -> u64 {
    let Some(limit) = process.limits.borrow().get(RLIMIT_CPU).copied() else { return u64::MAX };
    if limit.soft == RLIM_INFINITY || matches!(process.life.get(), Life::Zombie(_)) {
        return u64::MAX;
    }
    let used = process.cpu_time().0;
    if limit.hard != RLIM_INFINITY && left_of(limit.hard, used) == 0 {
        signal::send_to_process(process, SIGKILL, signal::info_from_kernel(SIGKILL));
        return u64::MAX;
    }
    let mut soft = limit.soft;
    if left_of(soft, used) == 0 {
        signal::send_to_process(process, SIGXCPU, signal::info_from_kernel(SIGXCPU));
        soft = soft.saturating_add(1);
        if let Some(limit) = process.limits.borrow_mut().get_mut(RLIMIT_CPU) {
            limit.soft = soft;
        }
    }
    look_at(process, now, left_of(soft.min(limit.hard), used))
}

/// Whether anything depends on a process's CPU time.
fn wants_time(process: &Process) -> bool {
    process.limit(RLIMIT_CPU) != RLIM_INFINITY
        || process.cpu_alarms.iter().any(|alarm| alarm.get().0 != 0)
        || process.timers.borrow().values().any(|timer| is_of_cpu_time(timer))
}

/// Takes the tasks of a process that compute out of their guests, so that their accounts are made up.
fn ask_for_time(process: &Process, now: u64) {
    /// State of a thread that runs or would like to.
    const RUNNABLE: u64 = 1;
    process.time_asked.set(now);
    for task in &*process.tasks.borrow() {
        if task.thread.stat().is_ok_and(|(_, state, _)| state == RUNNABLE) {
            let _ = task.thread.kick();
        }
    }
}

/// Fires what depends on a process's CPU time, once that is known; when the process must be looked at again.
fn fire_by_cpu_time(system: &System, process: &Rc<Process>, now: u64) -> u64 {
    let moment = rt::clock::ticks(LOOK);
    match process.time_asked.get() {
        0 => ask_for_time(process, now),
        asked if now >= asked.saturating_add(moment) => {
            process.time_asked.set(0);
            let mut next = fire_cpu_alarms(process, now).min(hold_to_cpu_limit(process, now));
            for timer in timers_of(process).iter().filter(|timer| is_of_cpu_time(timer)) {
                next = next.min(fire_timer(system, process, timer, now));
            }
            if next > now.saturating_add(moment) {
                return next;
            }
            ask_for_time(process, now);
        }
        _ => {}
    }
    process.time_asked.get().saturating_add(moment)
}

const fn is_of_cpu_time(timer: &signal::PosixTimer) -> bool {
    timer.clock == CLOCK_PROCESS_CPUTIME_ID
}

fn timers_of(process: &Process) -> Vec<Rc<signal::PosixTimer>> {
    process.timers.borrow().values().cloned().collect()
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
        if wants_time(&process) {
            next = next.min(fire_by_cpu_time(system, &process, now));
        }
        for timer in timers_of(&process).iter().filter(|timer| !is_of_cpu_time(timer)) {
            next = next.min(fire_timer(system, &process, timer, now));
        }
    }
    next
}

fn fire_timer(system: &System, process: &Rc<Process>, timer: &signal::PosixTimer, now: u64) -> u64 {
    let (at, interval) = timer.next.get();
    let is_cpu_time = is_of_cpu_time(timer);
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
