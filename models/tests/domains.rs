//! Domains: budgets, death, and that nothing is left of the dead.

use kernel_abi::{
    Error, Operation, Rights,
    resource::UNLIMITED,
    space::{Access, MapMode, SpaceUse},
};
use kernel_core::{
    domain::{Amounts, Domain},
    entry, frames,
    ipc::{Endpoint, Notification},
    space::{
        Space,
        edit::ZeroOptions,
        map::{self, Mapping},
    },
    thread::Thread,
};
use kernel_machine::object::{Ref, epoch};
use models::world::{Outcome, World, limits, use_of};

const READ: Access = Access::READ;

fn hold(domain: &Ref<Domain>) -> Ref<Space> {
    Space::create(domain, SpaceUse::Hold, None, false).unwrap()
}

fn populate(space: &Ref<Space>, page: u64, pages: u64) {
    let options = ZeroOptions { populate: true, ..ZeroOptions::default() };
    let mut done = 0;
    while done < pages {
        done += space.zero(page + done, pages - done, READ | Access::WRITE, options).unwrap();
    }
}

fn share(to: &Ref<Space>, from: &Ref<Space>, page: u64) -> Result<u64, Error> {
    let mapping = Mapping {
        to: page,
        from: page,
        pages: 1,
        mode: MapMode::Share,
        access: READ,
        may_execute: false,
        shared: false,
    };
    map::map(to.borrow(), from.borrow(), mapping, &epoch::enter())
}

#[test]
fn nothing_is_left_of_a_domain_with_everything_in_it() {
    let world = World::boot(8192, 2);
    let before = world.ledger();
    let domain = world.domain();
    let child = Domain::child(&domain, limits(1000, 1000)).unwrap();
    for owner in [&domain, &child] {
        let actor = world.actor(owner, 0);
        let space = hold(owner);
        populate(&space, 0, 300);
        let notification = Notification::create(owner).unwrap();
        world.grant(owner, 5, notification.into_any(), Rights::ALL);
        world.grant(owner, 4000, space.into_any(), Rights::ALL);
        world.grant(owner, 6, owner.clone().into_any(), Rights::ALL);
        world.grant(owner, 7, Endpoint::create(owner).unwrap().into_any(), Rights::ALL);
        assert_eq!(
            world.operate(&actor, Operation::NotificationWait, &[5, 1, u64::MAX]),
            Outcome::Waits
        );
    }
    drop(child);
    Domain::destroy(domain.borrow());
    world.settle();
    assert_eq!(use_of(&domain), [3, 0, 0, 0], "the tables of its slots go with the last reference");
    drop(domain);
    assert_eq!(world.ledger(), before);
}

#[test]
fn a_charge_that_fails_in_part_draws_nothing_from_the_parent() {
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let amounts = Amounts { threads: 0, ..limits(100, 100) };
    let domain = Domain::child(&world.root, amounts).unwrap();
    let charge = Amounts { units: 1, objects: 1, slots: 0, threads: 1 };
    assert_eq!(domain.charge(charge), Err(Error::OutOfObjects));
    Domain::destroy(domain.borrow());
    drop(domain);
    assert_eq!(world.ledger(), before);
}

#[test]
fn what_cannot_be_created_in_a_dead_domain_leaves_nothing() {
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let (domain, other) = (world.domain(), world.domain());
    let home = world.home(&other);
    Domain::destroy(domain.borrow());
    assert_eq!(Space::create(&domain, SpaceUse::Home, None, false).err(), Some(Error::DomainDead));
    assert_eq!(Thread::create(&domain, home.clone(), None).err(), Some(Error::DomainDead));
    Domain::destroy(other.borrow());
    drop((domain, other, home));
    assert_eq!(world.ledger(), before);
}

#[test]
fn a_frozen_space_may_die_before_its_borrowers() {
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let (lender, borrower) = (world.domain(), world.domain());
    let told = Notification::create(&world.root).unwrap();
    let space = hold(&lender);
    populate(&space, 0, 3);
    while !space.freeze().unwrap() {}
    let view = hold(&borrower);
    assert_eq!(share(&view, &space, 1), Ok(1));
    Domain::watch(lender.borrow(), told.clone(), 0).unwrap();
    Space::destroy(space.borrow());
    world.settle();
    assert_eq!(
        use_of(&lender)[0],
        8,
        "its three pages, tables and header stay while they are borrowed"
    );
    Space::destroy(view.borrow());
    world.settle();
    drop(view);
    drop(space);
    world.settle();
    assert_eq!(use_of(&lender), [0; 4]);
    Domain::destroy(lender.borrow());
    Domain::destroy(borrower.borrow());
    world.settle();
    let watcher = world.actor(&world.root, 0);
    world.grant(&world.root, 9, told.clone().into_any(), Rights::ALL);
    assert_eq!(
        world.operate(&watcher, Operation::NotificationWait, &[9, 2, 0]).value(),
        0,
        "it was told of the end"
    );
    Thread::kill(watcher.thread.borrow());
    assert!(Domain::remove(world.root.borrow(), 9));
    world.settle();
    drop((lender, borrower, told, watcher));
    let after = world.ledger();
    // The root Domain's own table of slots is one frame.
    assert_eq!(after.used[1..], before.used[1..]);
    assert_eq!(after.used[0], before.used[0] + 1);
}

#[test]
fn a_space_whose_freezing_failed_or_stopped_is_torn_down_whole() {
    for pages in [2, 12] {
        let world = World::boot(8192, 1);
        let before = world.ledger();
        let domain = world.domain();
        let (space, other) = (hold(&domain), hold(&domain));
        for page in 0..pages {
            populate(&space, page * 512, 1);
        }
        if pages == 2 {
            assert_eq!(share(&other, &space, 512), Ok(1));
            assert_eq!(space.freeze(), Err(Error::FrameInUse));
        } else {
            assert_eq!(space.freeze(), Ok(false), "it takes more than one slice");
        }
        Domain::destroy(domain.borrow());
        drop((domain, space, other));
        assert_eq!(world.ledger(), before);
    }
}

#[test]
fn the_watch_tells_of_death_and_of_the_end() {
    let world = World::boot(4096, 2);
    let (watcher, domain) = (world.domain(), world.domain());
    let told = Notification::create(&watcher).unwrap();
    let actor = world.actor(&watcher, 0);
    world.grant(&watcher, 5, told.clone().into_any(), Rights::ALL);
    world.grant(&watcher, 6, domain.clone().into_any(), Rights::ALL);
    let worker = world.actor(&domain, 1);
    world.make_current(&worker);
    assert_eq!(world.operate(&actor, Operation::DomainWatch, &[6, 5, 3]).value(), 0);
    assert_eq!(
        world.operate(&actor, Operation::DomainWatch, &[6, 5, 3]),
        Outcome::Done(Err(Error::WrongState))
    );
    assert_eq!(world.operate(&actor, Operation::ObjectDestroy, &[6]).value(), 0);
    let poll = [5, u64::MAX, 0];
    assert_eq!(
        world.operate(&actor, Operation::NotificationWait, &poll),
        Outcome::Done(Err(Error::TimedOut))
    );
    world.settle();
    assert_eq!(world.operate(&actor, Operation::NotificationWait, &poll).value(), 0);
    assert_eq!(actor.thread.context.get(kernel_machine::Reg::Rdx), 0b11 << 3);
    assert_eq!(
        world.operate(&actor, Operation::DomainStat, &[6, 0]),
        Outcome::Done(Err(Error::NoCapability))
    );
}

/// A thread has found a Space; before it destroys it another one takes the last reference to it away.
#[test]
fn a_space_destroyed_when_its_last_reference_has_gone_does_not_hold_its_domain_up() {
    let world = World::boot(4096, 1);
    let (watcher, domain) = (world.domain(), world.domain());
    let told = Notification::create(&watcher).unwrap();
    let actor = world.actor(&watcher, 0);
    world.grant(&watcher, 5, told.clone().into_any(), Rights::ALL);
    Domain::watch(domain.borrow(), told, 0).unwrap();
    world.grant(&domain, 7, hold(&domain).into_any(), Rights::ALL);
    {
        let section = epoch::enter();
        let found = domain.lookup(7, &section).unwrap();
        assert!(Domain::remove(domain.borrow(), 7));
        Space::destroy(found.get(Rights::ALL).unwrap());
    }
    Domain::destroy(domain.borrow());
    world.settle();
    assert_eq!(world.operate(&actor, Operation::NotificationWait, &[5, u64::MAX, 0]).value(), 0);
    assert_eq!(actor.thread.context.get(kernel_machine::Reg::Rdx), 0b11);
}

/// The tables of a Domain's capabilities are many: they go back in slices, as everything does.
#[test]
fn the_tables_of_capabilities_go_back_in_slices() {
    const TABLES: u64 = 600;
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let domain = world.domain();
    for table in 0..TABLES {
        let section = epoch::enter();
        Domain::prepare_slot(domain.borrow(), table * 512 + 1, &section).unwrap();
    }
    let free = frames::free_count();
    Domain::destroy(domain.borrow());
    drop(domain);
    let mut most = 0;
    let mut last = free;
    for _ in 0..10_000 {
        let _step = entry::idle_step();
        let now = frames::free_count();
        most = most.max(now - last);
        last = now;
    }
    assert!(
        last - free > TABLES * 4 / 5,
        "they came back but for what a CPU keeps: {}",
        last - free
    );
    assert!(most <= 160, "{most} frames in one slice");
    assert_eq!(world.ledger(), before);
}

#[test]
fn a_domain_is_limited_by_itself_and_its_ancestors() {
    let world = World::boot(8192, 1);
    let parent = world.limited(60, 100);
    let child = Domain::child(&parent, limits(1000, UNLIMITED)).unwrap();
    let mut taken = 0;
    while child.charge(Amounts::frames(1)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 59, "sixty but for the share of a frame that the child itself is");
    child.discharge(Amounts::frames(40));
    parent.charge(Amounts::frames(20)).expect("slack beyond a batch comes back to the parent");
    parent.discharge(Amounts::frames(20));
    child.discharge(Amounts::frames(19));
    assert_eq!(child.account(0).0, 0);
    assert_eq!(parent.account(0).0, 1);
    parent.set_limit(0, 1);
    assert_eq!(child.charge(Amounts::frames(1)), Err(Error::OutOfFrames));
}

#[test]
fn slots_hold_narrowed_rights_and_forget_the_dead() {
    let world = World::boot(4096, 1);
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    let done = |operation, arguments: &[u64]| world.operate(&actor, operation, arguments);
    assert_eq!(done(Operation::NotificationCreate, &[0, 5]).value(), 0);
    assert_eq!(
        done(Operation::NotificationCreate, &[0, 5]),
        Outcome::Done(Err(Error::SlotOccupied))
    );
    assert_eq!(done(Operation::CapCopy, &[0, 5, 600, u64::from(Rights::SEND.bits())]).value(), 0);
    assert_eq!(done(Operation::CapCopy, &[0, 600, 601, u64::from(u16::MAX)]).value(), 0);
    assert_eq!(
        done(Operation::NotificationWait, &[601, 1, 0]),
        Outcome::Done(Err(Error::MissingRight)),
        "rights never grow"
    );
    assert_eq!(done(Operation::NotificationSignal, &[601, 1]).value(), 0);
    assert_eq!(done(Operation::ObjectDestroy, &[601]), Outcome::Done(Err(Error::MissingRight)));
    assert_eq!(done(Operation::CapNext, &[0, 6]).value(), 600);
    assert_eq!(done(Operation::EndpointCreate, &[0, 0]), Outcome::Done(Err(Error::BadArgument)));
    assert_eq!(
        done(Operation::EndpointCreate, &[0, 1 << 20]),
        Outcome::Done(Err(Error::BadArgument))
    );
    assert_eq!(done(Operation::Receive, &[5, 0, 0]), Outcome::Done(Err(Error::WrongKind)));
    assert_eq!(done(Operation::ObjectDestroy, &[5]).value(), 0);
    assert_eq!(
        done(Operation::NotificationSignal, &[601, 1]),
        Outcome::Done(Err(Error::NoCapability))
    );
    assert_eq!(done(Operation::EndpointCreate, &[0, 5]).value(), 0, "a dead slot is free");
    assert_eq!(done(Operation::CapDelete, &[0, 5]).value(), 0);
    assert_eq!(done(Operation::CapDelete, &[0, 5]), Outcome::Done(Err(Error::NoCapability)));
    assert_eq!(done(Operation::CapDelete, &[0, 600]).value(), 0, "a dead slot can be emptied");
    assert_eq!(done(Operation::CapDelete, &[0, 601]).value(), 0);
    world.settle();
    assert_eq!(use_of(&domain)[1..], [2, 0, 1], "the thread and its home are left");
}

/// Nobody can end a wait of a thread that nothing refers to: it is no reason for its Domain to wait.
#[test]
fn a_parked_thread_that_nobody_can_reach_keeps_no_domain() {
    let world = World::boot(1024, 1);
    let before = world.ledger();
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    assert_eq!(world.operate(&actor, Operation::ThreadPark, &[u64::MAX]), Outcome::Waits);
    drop(actor);
    world.settle();
    assert_eq!(use_of(&domain)[3], 0, "the thread is gone");
    Domain::destroy(domain.borrow());
    world.settle();
    drop(domain);
    assert_eq!(world.ledger(), before);
}
