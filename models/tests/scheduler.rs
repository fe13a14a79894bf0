//! The scheduler and the timers: shares, quotas, CPU sets, stealing, deadlines.

use kernel_abi::{Operation, Rights, resource::UNLIMITED};
use kernel_core::{
    domain::Domain,
    entry::{self, IdleStep},
    sched,
    thread::Thread,
};
use kernel_machine::{
    Interrupt,
    object::{Ref, epoch},
    on_cpu,
};
use models::world::{Actor, Outcome, World, is_current, start};
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use std::sync::atomic::Ordering;

const MILLISECOND: u64 = 1_000_000;

/// A thread that runs whenever it is let, on any CPU.
fn spinner(world: &World, domain: &Ref<Domain>) -> Ref<Thread> {
    let thread = Thread::create(domain, world.home(domain), None).unwrap();
    start(&thread).unwrap();
    thread
}

/// Lets time pass on some CPUs in steps, with timer interrupts when they are due.
fn run(world: &World, cpus: usize, time: u64, step: u64) {
    for _ in 0..time / step {
        world.machine.advance(step);
        for cpu in 0..cpus {
            on_cpu(cpu, || {
                while let Some(interrupt) = world.machine.take_interrupt() {
                    entry::on_interrupt(interrupt);
                }
                if sched::is_idle() {
                    let _ = entry::idle_step();
                }
            });
        }
    }
    (0..cpus).for_each(|cpu| on_cpu(cpu, sched::account_now));
}

fn used(thread: &Ref<Thread>) -> u64 {
    thread.sched.used.load(Ordering::Relaxed)
}

#[test]
fn time_is_shared_by_the_weights_of_domains() {
    let world = World::boot(4096, 1);
    let domains: Vec<_> = (0..3).map(|_| world.domain()).collect();
    for (domain, weight) in domains.iter().zip([100, 200, 700]) {
        domain.schedule.set(weight, UNLIMITED, 1, u64::MAX, false);
    }
    // The second Domain has two threads: they share its weight.
    let threads = [0, 1, 1, 2].map(|index| spinner(&world, &domains[index]));
    run(&world, 1, 4000 * MILLISECOND, MILLISECOND / 4);
    let total: u64 = threads.iter().map(used).sum();
    for (thread, percent) in threads.iter().zip([10, 10, 10, 70]) {
        let share = used(thread) * 100 / total;
        assert!(share.abs_diff(percent) <= 2, "{share} % instead of {percent} %");
    }
}

/// A compartment's children and threads share what it has, whatever weights it gives them.
#[test]
fn weights_inside_a_compartment_do_not_count_outside() {
    let world = World::boot(4096, 1);
    world.root.schedule.set_service();
    let (greedy, modest) = (world.domain(), world.domain());
    let children = [100, 10_000, 10_000].map(|weight| {
        let child = Domain::child(&greedy, models::world::limits(200, 100)).unwrap();
        child.schedule.set(weight, UNLIMITED, 1, u64::MAX, false);
        child
    });
    let below = children.each_ref().map(|child| spinner(&world, child));
    let own = [(); 3].map(|()| spinner(&world, &greedy));
    own[0].sched.weight.store(10_000, Ordering::Relaxed);
    let alone = spinner(&world, &modest);
    run(&world, 1, 6000 * MILLISECOND, MILLISECOND / 4);
    let total: u64 = below.iter().chain(&own).chain([&alone]).map(used).sum();
    let share = used(&alone) * 100 / total;
    assert!((47..=53).contains(&share), "the modest one has {share} %");
    // Inside, weights mean what they say: each of the heavy ones has a third of the rest.
    for heavy in [&below[1], &below[2], &own[0]] {
        let share = used(heavy) * 100 / (total - used(&alone));
        assert!((29..=37).contains(&share), "a heavy one has {share} % of the greedy ones' time");
    }
}

#[test]
fn a_quota_holds_in_every_period() {
    let world = World::boot(4096, 2);
    let domain = world.domain();
    domain.schedule.set(100, 20 * MILLISECOND, 100 * MILLISECOND, u64::MAX, false);
    let threads = [(); 3].map(|()| spinner(&world, &domain));
    let mut last = 0;
    for _ in 0..10 {
        run(&world, 2, 100 * MILLISECOND, MILLISECOND / 4);
        let now: u64 = threads.iter().map(used).sum();
        assert!(
            (18..=23).contains(&((now - last) / MILLISECOND)),
            "{} ms of 20 ms",
            (now - last) / MILLISECOND
        );
        last = now;
    }
    assert!(domain.schedule.figures().1 > 0);
}

#[test]
fn the_quota_of_a_parent_holds_for_its_children() {
    let world = World::boot(4096, 1);
    let parent = world.domain();
    parent.schedule.set(100, 10 * MILLISECOND, 100 * MILLISECOND, u64::MAX, false);
    let child = Domain::child(&parent, models::world::limits(1000, 1000)).unwrap();
    let thread = spinner(&world, &child);
    run(&world, 1, 1000 * MILLISECOND, MILLISECOND / 4);
    assert!(
        (95..=115).contains(&(used(&thread) / MILLISECOND)),
        "{} ms of 100 ms",
        used(&thread) / MILLISECOND
    );
}

#[test]
fn threads_stay_on_their_cpus_and_idle_cpus_steal() {
    let world = World::boot(4096, 4);
    let domain = world.domain();
    domain.schedule.set(100, UNLIMITED, 1, 0b0110, false);
    let threads = [(); 4].map(|()| spinner(&world, &domain));
    let mut seen = [0_u64; 4];
    for _ in 0..200 {
        run(&world, 4, MILLISECOND, MILLISECOND / 2);
        for cpu in 0..4 {
            for (index, thread) in threads.iter().enumerate() {
                if on_cpu(cpu, || is_current(thread)) {
                    seen[index] |= 1 << cpu;
                }
            }
        }
    }
    assert!(seen.iter().all(|cpus| *cpus != 0 && cpus & !0b0110 == 0), "{seen:?}");
    let total: u64 = threads.iter().map(used).sum();
    assert!(total > 390 * MILLISECOND, "two CPUs are busy: {total}");
    // Now only the other two.
    domain.schedule.set(100, UNLIMITED, 1, 0b1001, false);
    sched::interrupt_domain(domain.borrow());
    run(&world, 4, 50 * MILLISECOND, MILLISECOND / 2);
    for cpu in [1, 2] {
        on_cpu(cpu, || {
            assert!(!threads.iter().any(is_current), "CPU {cpu} is not allowed any more");
        });
    }
    let before: u64 = threads.iter().map(used).sum();
    run(&world, 4, 50 * MILLISECOND, MILLISECOND / 2);
    let after: u64 = threads.iter().map(used).sum();
    assert!(after - before > 95 * MILLISECOND, "the other two are busy");
}

#[test]
fn services_run_before_compartments() {
    let world = World::boot(4096, 1);
    let (domain, services) = (world.domain(), world.domain());
    services.schedule.set(100, UNLIMITED, 1, u64::MAX, true);
    let busy = spinner(&world, &domain);
    let service = world.actor(&services, 0);
    assert_eq!(world.operate(&service, Operation::ThreadPark, &[u64::MAX]), Outcome::Waits);
    run(&world, 1, 10 * MILLISECOND, MILLISECOND);
    assert!(is_current(&busy));
    Thread::unpark(service.thread.borrow());
    entry::on_interrupt(Interrupt::Reschedule);
    assert!(is_current(&service.thread));
}

#[test]
fn a_dead_domain_stops_on_every_cpu() {
    let world = World::boot(4096, 3);
    let domain = world.domain();
    let threads = [(); 5].map(|()| spinner(&world, &domain));
    run(&world, 3, 20 * MILLISECOND, MILLISECOND);
    Domain::destroy(domain.borrow());
    world.settle();
    assert!(threads.iter().all(|thread| thread.waiting.number() == 3));
    for cpu in 0..3 {
        on_cpu(cpu, || assert!(sched::is_idle() && current_is_none()));
    }
}

#[test]
fn the_time_of_a_thread_that_never_enters_the_kernel_is_told() {
    let world = World::boot(4096, 2);
    let (domain, other) = (world.domain(), world.domain());
    let busy = world.actor(&domain, 1);
    world.make_current(&busy);
    let asker = world.actor(&other, 0);
    world.grant(&other, 40, domain.clone().into_any(), Rights::ALL);
    world.make_current(&asker);
    world.machine.advance(500 * MILLISECOND);
    let cpu_time = kernel_abi::resource::Resource::CpuTime as u64;
    let told = world.operate(&asker, Operation::DomainStat, &[40, cpu_time]).value();
    assert!((500..510).contains(&(told / MILLISECOND)), "{} ms", told / MILLISECOND);
}

#[test]
fn a_cpu_that_has_never_run_anything_is_used() {
    let world = World::boot(4096, 2);
    let domain = world.domain();
    on_cpu(1, || assert_eq!(entry::idle_step(), IdleStep::Nothing));
    let threads = [(); 2].map(|()| spinner(&world, &domain));
    let cpus = threads.map(|thread| thread.sched.cpu.load(Ordering::Relaxed));
    assert!(cpus.contains(&1), "placed on {cpus:?}");
}

/// Threads that only compute stay where they are in line unless an idle CPU hears of them.
#[test]
fn an_idle_cpu_is_told_of_threads_that_wait_in_line() {
    let world = World::boot(4096, 2);
    let domain = world.domain();
    // CPU 1 has run something and idles.
    let gone = world.actor(&domain, 1);
    assert_eq!(world.operate(&gone, Operation::ThreadExit, &[]), Outcome::Ended);
    let actors = [(); 2].map(|()| world.actor(&domain, 0));
    actors.iter().for_each(|actor| actor.thread.sched.cpus.store(u64::MAX, Ordering::Relaxed));
    while on_cpu(1, || world.machine.take_interrupt()).is_some() {}
    run(&world, 1, 20 * MILLISECOND, MILLISECOND / 4);
    assert_eq!(on_cpu(1, || world.machine.take_interrupt()), Some(Interrupt::Reschedule));
}

/// Nobody else tells a CPU whose thread never enters the kernel that another thread waits in its queue.
#[test]
fn a_busy_cpu_is_told_of_a_newcomer_from_elsewhere() {
    let world = World::boot(4096, 2);
    let (greedy, modest) = (world.domain(), world.domain());
    let newcomer = world.actor(&modest, 1);
    assert_eq!(world.operate(&newcomer, Operation::ThreadPark, &[u64::MAX]), Outcome::Waits);
    let busy = [0, 1].map(|cpu| world.actor(&greedy, cpu));
    run(&world, 2, 20 * MILLISECOND, MILLISECOND);
    assert!(busy.iter().all(|actor| on_cpu(actor.cpu, || is_current(&actor.thread))));
    on_cpu(0, || Thread::unpark(newcomer.thread.borrow()));
    run(&world, 2, 200 * MILLISECOND, MILLISECOND / 4);
    // Who has slept is let ahead by no more than the queue's ring of 32 ms.
    let share = used(&newcomer.thread) / MILLISECOND;
    assert!((98..=118).contains(&share), "{share} ms of 100 ms");
}

/// A timer that is set to something far away must not keep a busy CPU from the reaper's work.
#[test]
fn the_dead_are_given_back_beside_a_busy_thread_and_a_sleeper() {
    let world = World::boot(4096, 1);
    let (domain, victim) = (world.domain(), world.domain());
    let sleeper = world.actor(&domain, 0);
    let far = kernel_machine::now() + 60_000 * MILLISECOND;
    assert_eq!(world.operate(&sleeper, Operation::ThreadPark, &[far]), Outcome::Waits);
    let busy = world.actor(&domain, 0);
    world.make_current(&busy);
    let _held = world.home(&victim);
    world.grant(&domain, 40, victim.clone().into_any(), Rights::ALL);
    run(&world, 1, 20 * MILLISECOND, MILLISECOND);
    let destroyed = world.operate(&busy, Operation::ObjectDestroy, &[40]);
    assert_eq!(destroyed, Outcome::Done(Ok(0)));
    assert!(entry::is_work_pending());
    run(&world, 1, 100 * MILLISECOND, MILLISECOND);
    assert!(!entry::is_work_pending(), "what is dead is still there");
}

fn current_is_none() -> bool {
    sched::current(&epoch::enter()).is_none()
}

fn deadlines() -> impl Strategy<Value = Vec<u64>> {
    let one =
        prop_oneof![1..100_000_u64, 1..10_000_000_u64, 1..3_000_000_000_u64, Just(1_u64 << 40)];
    proptest::collection::vec(one, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Nobody wakes early, and nobody later than two grains of the wheel after the CPU has looked.
    #[test]
    fn deadlines_are_kept(deadlines in deadlines(), steps in proptest::collection::vec(1..50_000_000_u64, 1..60)) {
        let world = World::boot(2048, 1);
        let domain = world.domain();
        let begun = kernel_machine::now();
        let sleepers: Vec<(Actor, u64)> = deadlines.iter().map(|after| (world.actor(&domain, 0), begun + after)).collect();
        for (actor, deadline) in &sleepers {
            assert_eq!(world.operate(actor, Operation::ThreadPark, &[*deadline]), Outcome::Waits);
        }
        for step in steps {
            // As far as the step goes, but the timer interrupts when it is due.
            let target = kernel_machine::now() + step;
            while kernel_machine::now() < target {
                let timer = world.machine.timer();
                let next = if timer == 0 { target } else { timer.min(target) };
                world.machine.advance(next.saturating_sub(kernel_machine::now()));
                world.settle();
                let now = kernel_machine::now();
                for (actor, deadline) in &sleepers {
                    let sleeps = world.outcome(actor) == Outcome::Waits;
                    assert!(sleeps || now >= *deadline, "woken {} ticks early", deadline - now);
                    assert!(!sleeps || now < deadline + 2048, "{} ticks late", now - deadline);
                }
                if timer == 0 {
                    break;
                }
            }
        }
    }
}

/// A thread that is woken from elsewhere for a CPU whose thread had no rival, and so no timer, gets its turn.
#[test]
fn a_thread_woken_for_a_busy_cpu_gets_its_turn() {
    let world = World::boot(1024, 2);
    let domain = world.domain();
    let busy = world.actor(&domain, 1);
    world.make_current(&busy);
    let newcomer = Thread::create(&domain, world.home(&domain), None).unwrap();
    newcomer.sched.cpus.store(1 << 1, Ordering::Relaxed);
    newcomer.sched.cpu.store(1, Ordering::Relaxed);
    on_cpu(0, || start(&newcomer)).unwrap();
    run(&world, 2, 100 * MILLISECOND, MILLISECOND / 4);
    assert!(used(&newcomer) > 30 * MILLISECOND, "{} ms of 100 ms", used(&newcomer) / MILLISECOND);
}

/// A thread that is ahead of all others waits for them; its end does not.
#[test]
fn a_thread_that_is_far_ahead_ends_at_once_when_it_is_killed() {
    let world = World::boot(2048, 1);
    let (other, domain) = (world.domain(), world.domain());
    let busy = world.actor(&other, 0);
    world.make_current(&busy);
    let ahead = Thread::create(&domain, world.home(&domain), None).unwrap();
    ahead.sched.virtual_time.store(1 << 50, Ordering::Relaxed);
    start(&ahead).unwrap();
    run(&world, 1, 100 * MILLISECOND, MILLISECOND);
    Thread::kill(ahead.borrow());
    run(&world, 1, 100 * MILLISECOND, MILLISECOND);
    assert_eq!(ahead.waiting.number(), 3, "it is dead");
}
