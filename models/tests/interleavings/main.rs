//! The kernel's own code on several CPUs, in many orders: what must hold whoever comes first.
//!
//! Each test sets a machine up, then lets CPUs act at once; the checker chooses at random who goes on at every atomic access. A failure
//! prints the schedule that led to it. Owns no rule of its own: a wait that nobody ends, an object used after its memory was given back, a frame that
//! two own, a charge that stays are wrong in every order. `ORDERS=N` plays N orders of each test.

mod ends;
mod spaces;

use kernel_abi::{
    Error, Kind, Operation, Rights,
    cap::Slot,
    space::{Access, MapMode, SpaceUse},
};
use kernel_core::{
    domain::Domain,
    entry::{self, IdleStep},
    frames,
    ipc::{Endpoint, Gate, Notification, Reply},
    space::{Space, edit::ZeroOptions, shootdown},
    thread::Thread,
};
use kernel_machine::{
    CpuId, Frame,
    atomic::interleave,
    object::{Borrow, Object, Ref, SlotTable, Work, epoch},
    on_cpu,
};
use models::world::{Actor, Outcome, World};
use shuttle::rand::Rng;
use shuttle::scheduler::{RandomScheduler, Scheduler};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// Orders that each test plays.
const ORDERS: usize = 40;
const WRITE: Access = Access::READ.union(Access::WRITE);
const ENDPOINT: Slot = 10;
const REPLY: Slot = 11;
const NOTIFICATION: Slot = 12;
const GATE: Slot = 20;

/// Whether accesses interleave is said for all tests at once, so one plays at a time.
static PLAYING: Mutex<()> = Mutex::new(());

fn orders(test: impl Fn() + Send + Sync + 'static) {
    orders_times(1, test);
}

/// Plays so many times as many orders: for short tests of what few orders show.
fn orders_times(times: usize, test: impl Fn() + Send + Sync + 'static) {
    play(RandomScheduler::new(times * count()), test);
}

fn count() -> usize {
    std::env::var("ORDERS").ok().and_then(|text| text.parse().ok()).unwrap_or(ORDERS)
}

fn play(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let _playing = PLAYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = shuttle::MaxSteps::FailAfter(1_000_000);
    shuttle::Runner::new(scheduler, config).run(test);
}

type Act = Box<dyn FnOnce() + Send>;

/// Lets CPUs act at once.
fn at_once(acts: Vec<(CpuId, Act)>) {
    interleave(true);
    let left = Arc::new(shuttle::sync::atomic::AtomicUsize::new(acts.len()));
    let threads: Vec<_> = acts
        .into_iter()
        .map(|(cpu, act)| {
            let left = Arc::clone(&left);
            let turn = move || {
                act();
                left.fetch_sub(1, Ordering::SeqCst);
                // As an idle CPU, or one whose thread computes: it answers others.
                while left.load(Ordering::SeqCst) != 0 {
                    shootdown::serve();
                    shuttle::thread::yield_now();
                }
            };
            shuttle::thread::spawn(move || on_cpu(cpu, turn))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    interleave(false);
}

fn act(act: impl FnOnce() + Send + 'static) -> Act {
    Box::new(act)
}

/// An object that tells when its memory is about to be used for something else.
struct Probe(Arc<AtomicBool>);

impl Object for Probe {
    const KIND: Kind = Kind::Irq;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        this.0.store(true, Ordering::SeqCst);
        true
    }
}

#[test]
fn what_a_slot_showed_stays_until_the_entry_ends() {
    orders(|| {
        let world = World::boot(512, 3);
        let table = SlotTable::new(frames::allocate_zeroed().unwrap());
        let fill = |table: SlotTable| {
            let probe = Probe(Arc::new(AtomicBool::new(false)));
            let object = Ref::new(probe, frames::allocate).unwrap();
            assert!(table.install(7, object.into_any(), 1).is_ok());
        };
        fill(table);
        let reader = move || {
            for _ in 0..3 {
                let section = epoch::enter();
                let Some((object, _)) = table.get(7, &section) else { continue };
                let probe = object.downcast::<Probe>().expect("only probes are in this slot");
                // A counted reference keeps it beyond the entry, if one can still be had.
                let kept = object.to_ref();
                assert!(!probe.0.load(Ordering::SeqCst), "used after it was given back");
                let gone = Arc::clone(&probe.0);
                drop(section);
                if kept.is_some() {
                    assert!(!gone.load(Ordering::SeqCst), "counted, but given back");
                }
            }
        };
        let writer = move || {
            for _ in 0..2 {
                drop(table.take(7));
                for _ in 0..3 {
                    let section = epoch::enter();
                    let mut work = Work::new(64);
                    epoch::collect(&section, &mut work, frames::free);
                }
                fill(table);
            }
            drop(table.take(7));
        };
        at_once(vec![(0, act(reader)), (1, act(reader)), (2, act(writer))]);
        drop(world);
    });
}

#[test]
fn no_frame_is_given_twice_and_none_is_lost() {
    orders(|| {
        let _world = World::boot(96, 3);
        let total = free_frames();
        let held: Arc<Mutex<HashSet<u32>>> = Arc::default();
        let cpu = |held: Arc<Mutex<HashSet<u32>>>| {
            move || {
                let mut own: Vec<Frame> = Vec::new();
                for round in 0..60 {
                    if let Some(frame) = frames::allocate() {
                        assert!(
                            held.lock().unwrap().insert(frame.number()),
                            "{frame:?} given twice"
                        );
                        own.push(frame);
                    }
                    if round % 3 == 2
                        && let Some(frame) = own.pop()
                    {
                        held.lock().unwrap().remove(&frame.number());
                        frames::free(frame);
                    }
                }
                for frame in own {
                    held.lock().unwrap().remove(&frame.number());
                    frames::free(frame);
                }
            }
        };
        at_once((0..3).map(|id| (id, act(cpu(Arc::clone(&held))))).collect());
        assert_eq!(free_frames(), total);
    });
}

/// Takes every frame there is on every CPU, and gives them back.
fn free_frames() -> usize {
    let all: Vec<Frame> =
        (0..3).flat_map(|cpu| std::iter::from_fn(move || on_cpu(cpu, frames::allocate))).collect();
    let count = all.len();
    all.into_iter().for_each(frames::free);
    count
}

/// A thread that waits on CPU 0, its Domain and the world.
fn waiting(cpus: usize) -> (Arc<World>, Ref<Domain>, Actor) {
    let world = World::boot(1024, cpus);
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    world.make_current(&actor);
    (Arc::new(world), domain, actor)
}

/// The CPU of an actor that performs one operation.
fn operates(world: &Arc<World>, actor: &Actor, operation: Operation, arguments: [u64; 3]) -> Act {
    let (world, actor) = (Arc::clone(world), actor.clone());
    act(move || {
        let _ = world.try_operate(&actor, operation, &arguments);
    })
}

#[test]
fn a_signal_is_never_lost() {
    orders(|| {
        let (world, domain, actor) = waiting(3);
        let notification = Notification::create(&domain).unwrap();
        world.grant(&domain, NOTIFICATION, notification.clone().into_any(), Rights::ALL);
        let arguments = [NOTIFICATION.into(), 3, u64::MAX];
        let (one, two) = (notification.clone(), notification.clone());
        at_once(vec![
            (0, operates(&world, &actor, Operation::NotificationWait, arguments)),
            (1, act(move || one.signal(1))),
            (2, act(move || two.signal(2))),
        ]);
        world.settle();
        assert_eq!(world.outcome(&actor), Outcome::Done(Ok(0)));
        // What the first wait did not get, the next one does.
        let first = actor.thread.context.get(kernel_machine::Reg::Rdx);
        if first != 3 {
            let second = world.operate(&actor, Operation::NotificationWait, &arguments);
            assert_eq!(second, Outcome::Done(Ok(0)));
            assert_eq!(first | actor.thread.context.get(kernel_machine::Reg::Rdx), 3);
        }
    });
}

#[test]
fn unpark_and_kick_end_a_park_whenever_they_come() {
    orders(|| {
        let (world, _domain, actor) = waiting(3);
        let (one, two) = (actor.thread.clone(), actor.thread.clone());
        at_once(vec![
            (0, operates(&world, &actor, Operation::ThreadPark, [u64::MAX, 0, 0])),
            (1, act(move || Thread::unpark(one.borrow()))),
            (2, act(move || Thread::kick(two.borrow()))),
        ]);
        world.settle();
        // The one that did not end the first park ends the second at once.
        assert_ne!(world.outcome(&actor), Outcome::Waits);
        let again = world.operate(&actor, Operation::ThreadPark, &[u64::MAX]);
        assert_ne!(again, Outcome::Waits);
    });
}

/// A server on CPU 0 and a client on CPU 1.
struct Session {
    world: Arc<World>,
    server: Actor,
    client: Actor,
    server_domain: Ref<Domain>,
    client_domain: Ref<Domain>,
    endpoint: Ref<Endpoint>,
    gate: Ref<Gate>,
    reply: Ref<Reply>,
}

fn session() -> Session {
    let world = World::boot(1024, 3);
    let (server_domain, client_domain) = (world.domain(), world.domain());
    let endpoint = Endpoint::create(&server_domain).unwrap();
    let reply = Reply::create(&server_domain).unwrap();
    let gate = Gate::create(&client_domain, endpoint.clone(), 1, 2).unwrap();
    world.grant(&server_domain, ENDPOINT, endpoint.clone().into_any(), Rights::ALL);
    world.grant(&server_domain, REPLY, reply.clone().into_any(), Rights::ALL);
    world.grant(&client_domain, GATE, gate.clone().into_any(), Rights::ALL);
    let (server, client) = (world.actor(&server_domain, 0), world.actor(&client_domain, 1));
    world.make_current(&server);
    world.make_current(&client);
    let world = Arc::new(world);
    Session { world, server, client, server_domain, client_domain, endpoint, gate, reply }
}

impl Session {
    /// Serves one call.
    fn serves(&self) -> Act {
        let (world, server) = (Arc::clone(&self.world), self.server.clone());
        act(move || {
            server.thread.context.set(kernel_machine::Reg::R15, u64::from(REPLY) << 32);
            let receive = [u64::from(ENDPOINT), 0, 0, u64::MAX, 0, 0];
            if world.try_operate(&server, Operation::Receive, &receive) == Outcome::Done(Ok(0)) {
                let _ = world.try_operate(&server, Operation::Reply, &[u64::from(REPLY)]);
            }
        })
    }
    fn calls(&self) -> Act {
        operates(&self.world, &self.client, Operation::Call, [GATE.into(), 0, 0])
    }
}

#[test]
fn a_call_ends_whatever_dies_meanwhile() {
    for victim in 0..5 {
        orders(move || {
            let session = session();
            let (endpoint, gate, reply) =
                (session.endpoint.clone(), session.gate.clone(), session.reply.clone());
            let (server, client) = (session.server_domain.clone(), session.client_domain.clone());
            let destroyer = act(move || match victim {
                0 => Endpoint::destroy(endpoint.borrow()),
                1 => Gate::destroy(gate.borrow()),
                2 => Reply::destroy(reply.borrow()),
                3 => Domain::destroy(server.borrow()),
                _ => Domain::destroy(client.borrow()),
            });
            at_once(vec![(0, session.serves()), (1, session.calls()), (2, destroyer)]);
            session.world.settle();
            let outcome = session.world.outcome(&session.client);
            let is_served = matches!(outcome, Outcome::Done(Ok(0) | Err(Error::PeerDead)));
            let is_alone =
                matches!(outcome, Outcome::Done(Err(Error::NoCapability)) | Outcome::Ended);
            // A server whose Reply is gone takes no call, and the caller's deadline is its own business.
            let may_wait = victim == 2 && outcome == Outcome::Waits;
            assert!(is_served || is_alone || may_wait, "victim {victim}: {outcome:?}");
        });
    }
}

#[test]
fn what_is_created_while_its_domain_dies_dies_too() {
    orders(|| {
        let world = Arc::new(World::boot(1024, 3));
        let before = world.ledger();
        let domain = world.domain();
        let (one, two, dies) = (domain.clone(), domain.clone(), domain.clone());
        at_once(vec![
            (0, act(move || drop(Space::create(&one, SpaceUse::Home, None, false)))),
            (
                1,
                act(move || {
                    let child = Domain::child(&two, models::world::limits(64, 64));
                    if let Ok(child) = child {
                        drop(Notification::create(&child));
                    }
                }),
            ),
            (2, act(move || Domain::destroy(dies.borrow()))),
        ]);
        drop(domain);
        assert_eq!(world.ledger(), before);
    });
}

/// A page is copied on write on one CPU while another one takes it away and a third one takes a snapshot; all CPUs answer each other's flushes.
#[test]
fn pages_change_on_three_cpus_at_once() {
    orders(|| {
        let world = World::boot(1024, 3);
        let before = world.ledger();
        let domain = world.domain();
        let home = world.home(&domain);
        let child = Space::create(&domain, SpaceUse::Hold, None, false).unwrap();
        home.zero(0, 2, WRITE, ZeroOptions { populate: true, ..ZeroOptions::default() }).unwrap();
        let actors = [0, 1, 2].map(|cpu| world.actor_in(&domain, home.clone(), cpu));
        actors.iter().for_each(|actor| world.make_current(actor));
        let snapshot = kernel_core::space::map::Mapping {
            to: 0,
            from: 0,
            pages: 2,
            mode: MapMode::Snapshot,
            access: Access::empty(),
            may_execute: true,
            shared: false,
        };
        let (mapped, target) = (home.clone(), child.clone());
        let (touched, narrowed) = (home.clone(), home.clone());
        at_once(vec![
            (
                0,
                act(move || {
                    let section = epoch::enter();
                    let _ = kernel_core::space::map::map(
                        target.borrow(),
                        mapped.borrow(),
                        snapshot,
                        &section,
                    );
                    let _ = target.unmap(0, 1);
                }),
            ),
            (
                1,
                act(move || {
                    let _section = epoch::enter();
                    let _ = touched.resolve(0, WRITE);
                    let _ = touched.resolve(1, WRITE);
                }),
            ),
            (
                2,
                act(move || {
                    let _section = epoch::enter();
                    let _ = Space::protect(&narrowed, 0, 1, Access::READ);
                    let _ = narrowed.unmap(1, 1);
                }),
            ),
        ]);
        Domain::destroy(domain.borrow());
        drop((home, child, domain, actors));
        assert_eq!(world.ledger(), before);
    });
}

#[test]
fn the_reaper_loses_nothing_when_cpus_share_it() {
    orders(|| {
        let world = Arc::new(World::boot(2048, 3));
        let before = world.ledger();
        let domains = [(); 2].map(|()| world.domain());
        for domain in &domains {
            let space = Space::create(domain, SpaceUse::Hold, None, false).unwrap();
            let options = ZeroOptions { populate: true, ..ZeroOptions::default() };
            space.zero(0, 20, WRITE, options).unwrap();
        }
        let reap = || {
            for _ in 0..6 {
                let _step = entry::idle_step();
            }
        };
        let [one, two] = domains.map(|domain| {
            act(move || {
                Domain::destroy(domain.borrow());
                drop(domain);
                reap();
            })
        });
        at_once(vec![(0, one), (1, two), (2, act(reap))]);
        assert_eq!(world.ledger(), before);
        assert!(!entry::is_work_pending());
    });
}

/// One entry of an idle CPU, whatever it finds.
fn idle_once() {
    let _step = entry::idle_step();
}

/// Lets others go on for a while, so that what follows meets any step of theirs.
fn linger(longest: usize) {
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..longest) {
        shuttle::thread::yield_now();
    }
}

#[test]
fn a_thread_that_is_killed_while_a_cpu_picks_it_up_does_not_run_on() {
    orders_times(20, || {
        let world = Arc::new(World::boot(1024, 2));
        let domain = world.domain();
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
        on_cpu(0, || {
            let runs = models::world::is_current(&actor.thread);
            assert!(!runs || world.machine.take_interrupt().is_some(), "nothing ends it");
        });
        drop(domain);
    });
}
