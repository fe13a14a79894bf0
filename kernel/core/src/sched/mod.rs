//! The scheduler: which thread each CPU runs, and since when. Deadlines are in [`timer`].
//!
//! Owns: run queues, the current thread of every CPU, accounting of time. Must not know: why threads wait.
//!
//! A thread is in the queue of the CPU that ran it last; only a CPU that idles takes one away, and only if its old CPU has wholly left it
//! (`on_cpu`). A direct switch (a call to a waiting server, its answer) skips the queues; the time then still counts for the
//! caller, until the scheduler chooses anew; so does that of a service that a signal has woken.

mod queue;
pub mod timer;
mod wheel;

use crate::{
    counter::{self, Counter},
    domain::{Domain, schedule},
    lock,
    space::shootdown,
    thread::{
        NO_CPU, Thread,
        wait::{self, Wait},
    },
};
use kernel_machine::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel_machine::{
    self as machine, CpuId, Ipi, MAX_CPUS, PerCpu,
    object::{Borrow, Entry, Ref, SpinLock},
};
use queue::RunQueue;

/// What a CPU runs.
struct Cpu {
    current: Option<Ref<Thread>>,
    /// The current thread has blocked: only who wakes it puts it in line again.
    has_blocked: bool,
    /// Who pays for the time since `since`, if not the current thread.
    payer: Option<Ref<Thread>>,
    /// The current thread has woken a service that runs at once: it pays for it.
    donates: bool,
    since: u64,
    slice_end: u64,
    programmed: u64,
}

static CPUS: PerCpu<Cpu> = machine::per_cpu!(Cpu {
    current: None,
    has_blocked: false,
    payer: None,
    donates: false,
    since: 0,
    slice_end: 0,
    programmed: 0
});
static QUEUES: [SpinLock<RunQueue>; MAX_CPUS] =
    [const { SpinLock::new(lock::SCHEDULER, RunQueue::new()) }; MAX_CPUS];
static RESCHEDULE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// The Domain each CPU runs a thread of, by identity.
static RUNNING: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Up to when each CPU's time is accounted for.
static ACCOUNTED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// CPUs that idle.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// Base-two logarithm of the ticks in a bucket of virtual time, about half a millisecond.
static GRAIN: AtomicU32 = AtomicU32::new(20);

/// Sets the scheduler up.
pub fn boot() {
    let grain = (machine::ticks_per_second() / 2048).max(2).ilog2();
    GRAIN.store(grain, Ordering::Relaxed);
    #[cfg(not(target_os = "none"))]
    reset();
}

#[cfg(not(target_os = "none"))]
fn reset() {
    let stopped = || Cpu {
        current: None,
        has_blocked: false,
        payer: None,
        donates: false,
        since: 0,
        slice_end: 0,
        programmed: 0,
    };
    CPUS.reset(|cpu| core::mem::forget(core::mem::replace(cpu, stopped())));
    for queue in &QUEUES {
        // The old threads lie in a machine that is gone.
        core::mem::forget(core::mem::take(&mut *queue.lock()));
    }
    IDLE.store(0, Ordering::Relaxed);
    RUNNING.iter().for_each(|running| running.store(0, Ordering::Relaxed));
    RESCHEDULE.iter().for_each(|asked| asked.store(false, Ordering::Relaxed));
    timer::reset();
    shootdown::reset();
}

fn grain() -> u32 {
    GRAIN.load(Ordering::Relaxed)
}

/// Length of a turn.
fn slice() -> u64 {
    8 << grain()
}

/// The current thread of this CPU, for the rest of the entry.
#[must_use]
pub fn current(entry: &Entry) -> Option<Borrow<'_, Thread>> {
    CPUS.with(|cpu| cpu.current.as_ref().map(|thread| thread.protect(entry)))
}

/// Asks this CPU to choose anew before it leaves the kernel.
pub fn request_reschedule() {
    RESCHEDULE[machine::cpu()].store(true, Ordering::Relaxed);
}

/// Makes every CPU that runs a thread of a Domain look at its thread's fate.
pub fn interrupt_domain(domain: Borrow<'_, Domain>) {
    for (cpu, running) in RUNNING.iter().enumerate().take(machine::cpu_count()) {
        if running.load(Ordering::SeqCst) == domain.identity() {
            interrupt(cpu);
        }
    }
}

/// Makes a CPU look at its thread's fate.
pub fn interrupt(cpu: CpuId) {
    if cpu == machine::cpu() {
        request_reschedule();
    } else {
        machine::interrupt(cpu, Ipi::Reschedule);
    }
}

/// CPUs a thread may run on: its Domain's, if none of its own is left among them.
fn allowed(thread: &Thread) -> u64 {
    match thread.cpus() & mask_of_all() {
        0 => thread.domain().cpus() & mask_of_all(),
        mask => mask,
    }
}

fn allows(thread: &Thread, cpu: CpuId) -> bool {
    allowed(thread) & 1 << cpu != 0
}

/// Makes a thread runnable: on the CPU it ran on, or on one that idles.
pub fn ready(thread: Ref<Thread>) {
    let target = place(&thread);
    thread.sched.cpu.store(target, Ordering::Relaxed);
    count_runnable(&thread, target, true);
    let is_service = thread.domain().schedule.is_service();
    QUEUES[target].lock().push(thread, grain());
    if target == machine::cpu() {
        preempt_current(is_service);
    } else if is_service || !timer::ticks(target) {
        // An idle CPU does not tick either.
        machine::interrupt(target, Ipi::Reschedule);
    }
}

/// The current thread has just signalled: a service that runs at once because of it runs on its account, as with a call. Otherwise a
/// compartment could make services work at the expense of others.
pub fn donate() {
    if RESCHEDULE[machine::cpu()].load(Ordering::Relaxed) {
        CPUS.with(|cpu| {
            cpu.donates = cpu.current.as_ref().is_some_and(|thread| !thread.domain().schedule.is_service());
        });
    }
}

/// Lets this CPU's current thread go on only if the newcomer need not run at once.
fn preempt_current(newcomer_is_service: bool) {
    let is_preempted = CPUS.with(|cpu| match &cpu.current {
        Some(current) => newcomer_is_service && !current.domain().schedule.is_service(),
        None => true,
    });
    if is_preempted {
        request_reschedule();
    } else {
        timer::program();
    }
}

/// The CPU to queue a thread on.
fn place(thread: &Thread) -> CpuId {
    let home = thread.sched.cpu.load(Ordering::Relaxed);
    if thread.sched.on_cpu.load(Ordering::Acquire) != NO_CPU && home < machine::cpu_count() {
        return home;
    }
    let allowed = allowed(thread);
    let idle = IDLE.load(Ordering::SeqCst) & allowed;
    let me = machine::cpu();
    if home < machine::cpu_count() && allowed & 1 << home != 0 && (idle == 0 || idle & 1 << home != 0) {
        return home;
    }
    if idle != 0 {
        return idle.trailing_zeros() as usize;
    }
    if allowed & 1 << me != 0 { me } else { allowed.trailing_zeros() as usize }
}

/// A mask with a bit for every CPU.
#[must_use]
pub fn mask_of_all() -> u64 {
    match machine::cpu_count() {
        64.. => u64::MAX,
        count => (1 << count) - 1,
    }
}

/// Blocks the current thread, whose wait is published, and runs another.
///
/// From here on the thread is its waker's, even where the waker has ended the wait already: its result may not be written yet.
pub fn block() {
    CPUS.with(|cpu| cpu.has_blocked = true);
    request_reschedule();
}

/// Whether a thread can be switched to directly on this CPU.
#[must_use]
pub fn can_switch_to(thread: &Thread) -> bool {
    thread.sched.on_cpu.load(Ordering::Acquire) == NO_CPU
        && allows(thread, machine::cpu())
        && !thread.is_doomed()
}

/// Runs a thread at once on the time of the current one, which has blocked. The thread was woken, and is in no queue.
pub fn switch_to(thread: Ref<Thread>, entry: &Entry) {
    account(machine::now());
    let me = machine::cpu();
    let payer = CPUS.with(|cpu| cpu.payer.take().or_else(|| cpu.current.clone()));
    leave_queue_count();
    thread.sched.cpu.store(me, Ordering::Relaxed);
    count_runnable(&thread, me, true);
    let own = payer.as_ref().is_some_and(|payer| payer.is(&thread));
    run(thread, entry);
    CPUS.with(|cpu| cpu.payer = payer.filter(|_| !own));
}

/// A thread becomes runnable on a CPU (true) or stops being so. It leaves with the weight it came with.
fn count_runnable(thread: &Thread, cpu: CpuId, more: bool) {
    let sched = &thread.sched;
    if more {
        sched.counted_weight.store(sched.weight.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let weight = sched.counted_weight.load(Ordering::Relaxed);
    schedule::count_runnable(thread.domain(), cpu, weight, more);
}

/// The current thread no longer counts as runnable.
fn leave_queue_count() {
    CPUS.with(|cpu| {
        if let Some(current) = &cpu.current {
            count_runnable(current, machine::cpu(), false);
        }
    });
}

/// Charges the time since the last look to the current thread and whoever pays for it.
fn account(now: u64) {
    CPUS.with(|cpu| {
        let ticks = now.saturating_sub(cpu.since);
        cpu.since = now;
        ACCOUNTED[machine::cpu()].store(now, Ordering::Release);
        let Some(thread) = &cpu.current else { return };
        let sched = &thread.sched;
        sched.used.store(sched.used.load(Ordering::Relaxed).wrapping_add(ticks), Ordering::Relaxed);
        if thread.context.in_guest() {
            sched
                .used_in_guest
                .store(sched.used_in_guest.load(Ordering::Relaxed).wrapping_add(ticks), Ordering::Relaxed);
        }
        let payer = cpu.payer.as_ref().unwrap_or(thread);
        if !payer.domain().schedule.is_service() {
            let weight = payer.sched.counted_weight.load(Ordering::Relaxed);
            let worth = schedule::virtual_time(payer.domain(), ticks, weight, machine::cpu());
            payer.sched.virtual_time.fetch_add(worth, Ordering::Relaxed);
        }
        payer.domain().line().for_each(|paying| paying.schedule.add_time(ticks));
    });
}

/// Time that CPUs spend on a Domain's threads now and that no account contains yet: a thread that computes alone is not interrupted for
/// the sake of its account.
#[must_use]
pub fn time_under_way(domain: Borrow<'_, Domain>) -> u64 {
    let now = machine::now();
    let runs = |cpu: &CpuId| RUNNING[*cpu].load(Ordering::SeqCst) == domain.identity();
    (0..machine::cpu_count())
        .filter(runs)
        .map(|cpu| now.saturating_sub(ACCOUNTED[cpu].load(Ordering::Acquire)))
        .sum()
}

/// Charges the time up to now.
pub fn account_now() {
    account(machine::now());
}

/// Chooses anew if somebody asked for it; the last thing of every entry from user mode.
pub fn leave_kernel(entry: &Entry) {
    let asked = &RESCHEDULE[machine::cpu()];
    if !asked.load(Ordering::Relaxed) && crate::reaper::is_pending() && !timer::ticks(machine::cpu()) {
        // The thread may never come back by itself.
        timer::program();
    }
    // Who was doomed before this CPU was seen to run it has asked for the next one.
    while asked.swap(false, Ordering::Relaxed) {
        reschedule(entry);
    }
}

/// Puts the current thread back or lets it go, and runs the next one, or none.
pub fn reschedule(entry: &Entry) {
    let now = machine::now();
    account(now);
    timer::expire(now);
    let donor = CPUS.with(|cpu| {
        cpu.payer = None;
        core::mem::take(&mut cpu.donates).then(|| cpu.current.clone()).flatten()
    });
    requeue_current();
    RESCHEDULE[machine::cpu()].store(false, Ordering::Relaxed);
    match pick(now) {
        Some(thread) => {
            let is_service = thread.domain().schedule.is_service();
            run(thread, entry);
            CPUS.with(|cpu| cpu.payer = donor.filter(|_| is_service));
        }
        None => run_nothing(),
    }
}

fn requeue_current() {
    let has_blocked = CPUS.with(|cpu| core::mem::take(&mut cpu.has_blocked));
    let Some(current) = CPUS.with(|cpu| cpu.current.clone()) else { return };
    let me = machine::cpu();
    if has_blocked || !current.waiting.is_ready() {
        count_runnable(&current, me, false);
    } else if current.is_doomed() {
        count_runnable(&current, me, false);
        current.end();
    } else if !allows(&current, me) {
        // It goes where it may run once this CPU has left it: as a thread that sleeps for no time.
        count_runnable(&current, me, false);
        sleep_until(&current, machine::now());
    } else {
        let weight = current.sched.weight.load(Ordering::Relaxed);
        if weight != current.sched.counted_weight.load(Ordering::Relaxed) {
            // It was changed while the thread ran: it leaves the competition and joins anew.
            count_runnable(&current, me, false);
            count_runnable(&current, me, true);
        }
        let is_new = QUEUES[me].lock().push(current, grain());
        debug_assert!(is_new, "a thread that has not blocked is in line already");
    }
}

/// Takes the next thread that may run from this CPU's queue or another's.
fn pick(now: u64) -> Option<Ref<Thread>> {
    let me = machine::cpu();
    loop {
        let next = QUEUES[me].lock().pop(grain());
        let thread = next.or_else(steal)?;
        if thread.is_doomed() {
            count_runnable(&thread, me, false);
            thread.end();
        } else if !allows(&thread, me) {
            // Its set has changed while it was in line; it goes elsewhere as in `requeue_current`.
            count_runnable(&thread, me, false);
            sleep_until(&thread, now);
        } else if let Some(until) = throttled_until(&thread, now) {
            count_runnable(&thread, me, false);
            thread.domain().schedule.count_throttled();
            counter::add(Counter::Throttles, 1);
            sleep_until(&thread, until);
        } else {
            return Some(thread);
        }
    }
}

/// When the thread may run again, if its Domain or an ancestor has used up its time.
fn throttled_until(thread: &Thread, now: u64) -> Option<u64> {
    thread.domain().line().filter_map(|domain| domain.schedule.throttled_until(now)).max()
}

/// Lets a runnable thread sleep in this CPU's wheel.
fn sleep_until(thread: &Ref<Thread>, until: u64) {
    wait::describe(thread, Wait::Throttled);
    timer::arm(thread, until);
    // Who has killed it meanwhile has not seen it wait.
    wait::recheck(thread, thread.waiting.block());
}

fn steal() -> Option<Ref<Thread>> {
    let me = machine::cpu();
    let count = machine::cpu_count();
    for step in 1..count {
        let victim = (me + step) % count;
        let mut queue = QUEUES[victim].lock();
        if queue.is_empty() {
            continue;
        }
        let may_take =
            |thread: &Thread| thread.sched.on_cpu.load(Ordering::Acquire) == NO_CPU && allows(thread, me);
        if let Some(thread) = queue.steal(may_take) {
            drop(queue);
            count_runnable(&thread, victim, false);
            count_runnable(&thread, me, true);
            thread.sched.cpu.store(me, Ordering::Relaxed);
            counter::add(Counter::Steals, 1);
            return Some(thread);
        }
    }
    None
}

/// Runs a thread on this CPU.
fn run(thread: Ref<Thread>, _entry: &Entry) {
    let me = machine::cpu();
    IDLE.fetch_and(!(1 << me), Ordering::SeqCst);
    // Before the thread's marks are looked at: who kicks it afterwards sees where it runs.
    thread.sched.on_cpu.store(me, Ordering::SeqCst);
    let Some((roots, home, guest)) = thread.prepare_roots() else {
        thread.end();
        run_nothing();
        return;
    };
    let is_same = CPUS.with(|cpu| cpu.current.as_ref().is_some_and(|current| current.is(&thread)));
    RUNNING[me].store(thread.domain().borrow().identity(), Ordering::SeqCst);
    shootdown::publish(home, guest);
    machine::resume(&thread.context, roots);
    shootdown::settle();
    let before = CPUS.with(|cpu| {
        cpu.slice_end = cpu.since.saturating_add(slice());
        cpu.current.replace(thread)
    });
    if !is_same {
        counter::add(Counter::Switches, 1);
        if let Some(before) = &before {
            // ORDERING: Release: its registers are all in memory before another CPU may take it.
            before.sched.on_cpu.store(NO_CPU, Ordering::Release);
        }
    }
    // What goes with the thread before is work for the reaper, which the timer below takes into account.
    drop(before);
    if is_doomed_after_publishing() {
        request_reschedule();
    }
    timer::program();
}

/// Whether the current thread was doomed, or its guest Space destroyed, while it was not yet visible as running.
fn is_doomed_after_publishing() -> bool {
    let is_lost = |thread: &Ref<Thread>| {
        thread.is_doomed() || thread.guest().is_some_and(|guest| guest.borrow().is_dead())
    };
    CPUS.with(|cpu| cpu.current.as_ref().is_some_and(is_lost))
}

fn run_nothing() {
    shootdown::publish(0, 0);
    machine::resume_none();
    shootdown::settle();
    RUNNING[machine::cpu()].store(0, Ordering::SeqCst);
    let before = CPUS.with(|cpu| cpu.current.take());
    if let Some(before) = before {
        before.sched.on_cpu.store(NO_CPU, Ordering::Release);
    }
    IDLE.fetch_or(1 << machine::cpu(), Ordering::SeqCst);
    timer::program();
}

/// Loads the current thread's roots again: its guest Space or mode has changed.
pub fn reload_roots(entry: &Entry) {
    if let Some(thread) = CPUS.with(|cpu| cpu.current.clone()) {
        run(thread, entry);
    }
}

/// What an idle CPU does next, also one that has never run anything: run something (true), or sleep.
pub fn leave_idle(entry: &Entry) -> bool {
    reschedule(entry);
    !is_idle()
}

/// Whether this CPU runs no thread.
#[must_use]
pub fn is_idle() -> bool {
    CPUS.with(|cpu| cpu.current.is_none())
}
