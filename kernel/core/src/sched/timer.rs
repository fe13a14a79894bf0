//! Timers: deadlines of waits, and the end of a thread's turn.
//!
//! Owns: the timer wheels and what each CPU's timer is set to. Must not know: which thread runs next.

use super::{CPUS, IDLE, QUEUES, grain, mask_of_all, request_reschedule, slice, wheel::Wheel};
use crate::{
    lock,
    thread::{NO_CPU, Thread, wait},
};
use kernel_abi::{Error, resource::UNLIMITED};
use kernel_machine::{
    self as machine, CpuId, Ipi, MAX_CPUS,
    atomic::{AtomicBool, Ordering},
    object::{Ref, SpinLock},
};

/// Deadlines beyond this many ticks are none.
const FAR: u64 = 1 << 57;
/// Timers that one entry lets expire or moves at most.
const STEPS: u32 = 64;

static WHEELS: [SpinLock<Wheel>; MAX_CPUS] = [const { SpinLock::new(lock::WHEEL, Wheel::new()) }; MAX_CPUS];
/// Whether each CPU's timer ends its current thread's turn. Nothing else brings a thread that computes back into the kernel, so who
/// leaves work on such a CPU looks here.
static TICKING: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

#[cfg(not(target_os = "none"))]
pub(super) fn reset() {
    for wheel in &WHEELS {
        // The old threads lie in a machine that is gone.
        core::mem::forget(core::mem::take(&mut *wheel.lock()));
    }
    TICKING.iter().for_each(|ticking| ticking.store(false, Ordering::Relaxed));
}

/// Whether a CPU's timer brings its current thread back into the kernel.
pub(super) fn ticks(cpu: CpuId) -> bool {
    TICKING[cpu].load(Ordering::SeqCst)
}

/// This CPU's timer has fired.
pub fn fired() {
    let now = machine::now();
    CPUS.with(|cpu| cpu.programmed = 0);
    expire(now);
    let (turn_over, is_alone) =
        (CPUS.with(|cpu| cpu.slice_end <= now), QUEUES[machine::cpu()].lock().is_empty());
    let is_limited =
        CPUS.with(|cpu| cpu.current.as_ref().is_some_and(|thread| time_left(thread, now).is_some()));
    if turn_over && !is_alone {
        wake_idle();
    }
    if (turn_over && !is_alone) || is_limited {
        request_reschedule();
    } else if turn_over {
        // Nobody else wants the CPU: another turn, so that the reaper gets its share and no more.
        CPUS.with(|cpu| cpu.slice_end = now.saturating_add(slice()));
    }
    program();
}

/// Lets an idle CPU look for threads that wait in line elsewhere: nobody who computes wakes it otherwise.
fn wake_idle() {
    let idle = IDLE.load(Ordering::SeqCst) & mask_of_all() & !(1 << machine::cpu());
    if idle != 0 {
        machine::interrupt(idle.trailing_zeros() as usize, Ipi::Reschedule);
    }
}

/// Ends the thread's wait at a deadline, if there is one. Called before the wait is published.
pub fn arm(thread: &Ref<Thread>, deadline: u64) {
    if deadline >= FAR || deadline == UNLIMITED {
        return;
    }
    let me = machine::cpu();
    thread.sched.deadline.store(deadline, Ordering::Relaxed);
    thread.sched.timer_cpu.store(me, Ordering::Release);
    WHEELS[me].lock().insert(thread.clone(), deadline);
}

/// Takes a thread's timer away.
pub fn cancel(thread: &Ref<Thread>) {
    let cpu = thread.sched.timer_cpu.swap(NO_CPU, Ordering::AcqRel);
    if let Some(wheel) = WHEELS.get(cpu) {
        wheel.lock().remove(thread);
    }
}

pub(super) fn expire(now: u64) {
    let mut steps = STEPS;
    loop {
        let mut wheel = WHEELS[machine::cpu()].lock();
        let Some(thread) = wheel.pop_due(now, &mut steps) else { return };
        // Read while the wheel is locked: a wait that has ended takes its timer away first.
        let word = thread.waiting.blocked();
        drop(wheel);
        if let Some(claim) = word.and_then(|word| thread.waiting.claim_exact(word)) {
            wait::wake(&thread, claim, Err(Error::TimedOut));
        }
    }
}

/// Ticks until the bandwidth of the current thread's Domain or an ancestor is used up.
fn time_left(thread: &Thread, now: u64) -> Option<u64> {
    thread.domain().line().filter_map(|domain| domain.schedule.left(now)).min()
}

/// Sets this CPU's timer to whatever comes first.
pub(super) fn program() {
    let me = machine::cpu();
    let now = machine::now();
    let mut deadline = WHEELS[me].lock().next_deadline().unwrap_or(u64::MAX);
    // ORDERING: SeqCst, before the queue is looked at: who puts a thread there afterwards sees that nothing ticks, and interrupts.
    TICKING[me].store(false, Ordering::SeqCst);
    let has_others = !QUEUES[me].lock().is_empty();
    let reaps = crate::reaper::is_pending();
    CPUS.with(|cpu| {
        if let Some(thread) = &cpu.current {
            if has_others || reaps {
                deadline = deadline.min(cpu.slice_end);
                TICKING[me].store(true, Ordering::SeqCst);
            }
            if let Some(left) = time_left(thread, now) {
                // Other CPUs use the same quota up and tell of it only when they account.
                let share = (left / machine::cpu_count().max(1) as u64).max(1 << grain()).min(left);
                deadline = deadline.min(now.saturating_add(share));
            }
        }
        if deadline == u64::MAX {
            deadline = 0;
        } else {
            deadline = deadline.max(now + 1);
        }
        if cpu.programmed != deadline {
            cpu.programmed = deadline;
            machine::set_timer(deadline);
        }
    });
}
