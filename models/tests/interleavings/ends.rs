//! Ends that meet what a CPU is about to do: of a thread that is being picked up or held back, of an object whose memory is used again.

use super::*;
use shuttle::scheduler::{RandomScheduler, Schedule, Scheduler, Task, TaskId};

/// Plays so many times as many orders in which a CPU mostly goes on for a while: for what needs many steps of one CPU between two of another.
fn orders_in_bursts(times: usize, test: impl Fn() + Send + Sync + 'static) {
    play(Bursts { choice: RandomScheduler::new(times * count()), left: 0 }, test);
}

/// Lets whoever was chosen take up to 128 steps.
struct Bursts {
    choice: RandomScheduler,
    left: u64,
}

impl Scheduler for Bursts {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.choice.new_execution()
    }
    fn next_task(
        &mut self,
        tasks: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let goes_on = self.left > 0 && tasks.iter().any(|task| Some(task.id()) == current);
        if goes_on {
            self.left -= 1;
            return current;
        }
        self.left = self.choice.next_u64() % 128;
        self.choice.next_task(tasks, current, yields)
    }
    fn next_u64(&mut self) -> u64 {
        self.choice.next_u64()
    }
}

/// The period of a quota may be minutes long.
#[test]
fn a_thread_that_is_killed_while_it_is_held_back_does_not_sleep_on() {
    orders_times(20, || {
        let world = Arc::new(World::boot(128, 2));
        let before = world.ledger();
        let domain = world.domain();
        domain.schedule.set(100, 1, 1 << 42, u64::MAX, false);
        assert_eq!(domain.schedule.throttled_until(kernel_machine::now()), None);
        domain.schedule.add_time(2);
        let actor = world.actor(&domain, 0);
        let dies = actor.thread.clone();
        at_once(vec![
            (0, act(idle_once)),
            (
                1,
                act(move || {
                    linger(120);
                    Thread::kill(dies.borrow());
                }),
            ),
        ]);
        world.settle();
        assert_eq!(world.outcome(&actor), Outcome::Ended, "it sleeps");
        Domain::destroy(domain.borrow());
        drop((domain, actor));
        assert_eq!(world.ledger(), before, "a timer keeps it");
    });
}

#[test]
fn a_kick_of_a_guest_that_a_cpu_picks_up_is_not_lost() {
    orders_times(40, || {
        let world = Arc::new(World::boot(128, 2));
        let domain = world.domain();
        let home = world.home(&domain);
        home.zero(1, 1, WRITE, ZeroOptions { populate: true, ..ZeroOptions::default() }).unwrap();
        let guest = Space::create(&domain, SpaceUse::Guest, Some(home.clone()), false).unwrap();
        let thread = Thread::create(&domain, home, Some(4096)).unwrap();
        thread.attach(Some(guest));
        thread.sched.cpus.store(1, Ordering::Relaxed);
        models::world::start(&thread).unwrap();
        thread.context.enter_guest();
        let kicked = thread.clone();
        at_once(vec![
            (0, act(idle_once)),
            (
                1,
                act(move || {
                    linger(120);
                    Thread::kick(kicked.borrow());
                }),
            ),
        ]);
        on_cpu(0, || {
            let runs = models::world::is_current(&thread) && thread.context.in_guest();
            assert!(!runs || world.machine.take_interrupt().is_some(), "the guest runs on");
        });
    });
}

/// The reaper meets an object that nobody refers to any more while its memory is used for another one.
#[test]
fn what_dies_with_its_domain_is_not_what_has_taken_its_place() {
    orders_in_bursts(30, || {
        let world = Arc::new(World::boot(128, 2));
        let (domain, other) = (world.domain(), world.domain());
        on_cpu(1, || drop(Notification::create(&domain).unwrap()));
        epoch::advance();
        Domain::destroy(domain.borrow());
        let made: Arc<Mutex<Option<Ref<Notification>>>> = Arc::default();
        let place = Arc::clone(&made);
        at_once(vec![
            (0, act(idle_once)),
            (
                1,
                act(move || {
                    let section = epoch::enter();
                    epoch::collect(&section, &mut Work::new(64), frames::free);
                    *place.lock().unwrap() = Notification::create(&other).ok();
                }),
            ),
        ]);
        let made = made.lock().unwrap().take().unwrap();
        assert!(!made.borrow().is_dead(), "another Domain's object was destroyed");
        drop((made, domain));
    });
}

/// One CPU tells of a Domain's end while the other finds nothing left to reap: whoever waits for that runs before both sleep.
#[test]
fn who_waits_for_an_end_runs_before_the_cpus_sleep() {
    orders_times(20, || {
        let world = Arc::new(World::boot(256, 2));
        let (watcher, domain) = (world.domain(), world.domain());
        let actor = world.actor(&watcher, 0);
        world.grant(&watcher, 5, Notification::create(&watcher).unwrap().into_any(), Rights::ALL);
        world.grant(&watcher, 6, domain.clone().into_any(), Rights::ALL);
        assert_eq!(world.operate(&actor, Operation::DomainWatch, &[6, 5, 3]).value(), 0);
        assert_eq!(world.operate(&actor, Operation::ObjectDestroy, &[6]).value(), 0);
        let wait = [5, 2 << 3, u64::MAX];
        assert_eq!(world.operate(&actor, Operation::NotificationWait, &wait), Outcome::Waits);
        let until_asleep = |world: &World| {
            while entry::idle_step() == IdleStep::Worked
                || world.machine.take_interrupt().map(entry::on_interrupt).is_some()
            {}
        };
        at_once([0, 1].map(|cpu| (cpu, act_in(&world, until_asleep))).into());
        for cpu in [0, 1] {
            let woken = || world.machine.take_interrupt().map(entry::on_interrupt);
            while on_cpu(cpu, woken).is_some() {
                on_cpu(cpu, || until_asleep(&world));
            }
        }
        assert_eq!(world.outcome(&actor).value(), 0);
        let runs = |cpu| on_cpu(cpu, || models::world::is_current(&actor.thread));
        assert!(runs(0) || runs(1), "it is left in line");
        drop(domain);
    });
}

fn act_in(world: &Arc<World>, acts: impl FnOnce(&World) + Send + 'static) -> Act {
    let world = Arc::clone(world);
    act(move || acts(&world))
}
