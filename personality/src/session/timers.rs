//! The timers' thread: alarms and POSIX timers fire when they are due.

use crate::{
    linux::SIGALRM,
    system::{SYSTEM, System},
    task::{Process, signal},
};
use alloc::{rc::Rc, vec::Vec};

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

/// Fires every timer that is due; when the next is.
fn fire(system: &System, now: u64) -> u64 {
    let mut next = u64::MAX;
    for process in system.processes.all() {
        let (at, interval) = process.alarm.get();
        if at != 0 && at <= now {
            let after = if interval == 0 { 0 } else { at + interval * (1 + (now - at) / interval) };
            process.alarm.set((after, interval));
            signal::send_to_process(&process, SIGALRM, signal::info_from_kernel(SIGALRM));
        }
        if process.alarm.get().0 != 0 {
            next = next.min(process.alarm.get().0);
        }
        let timers: Vec<_> = process.timers.borrow().values().cloned().collect();
        for timer in timers {
            next = next.min(fire_timer(system, &process, &timer, now));
        }
    }
    next
}

fn fire_timer(system: &System, process: &Rc<Process>, timer: &signal::PosixTimer, now: u64) -> u64 {
    let (at, interval) = timer.next.get();
    if at != 0 && at <= now {
        let missed = (now - at).checked_div(interval).unwrap_or(0);
        let after = if interval == 0 { 0 } else { at + interval * (1 + missed) };
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
        at => at,
    }
}
