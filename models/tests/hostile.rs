//! What a compartment must not gain by what it does with its own Spaces, Domains and threads. One CPU acts at a time here; `interleavings` has the races.

use kernel_abi::{
    Error, Operation, Rights,
    resource::{DEFAULT_WEIGHT, UNLIMITED},
    space::{Access, MapMode, SpaceUse},
};
use kernel_core::{
    domain::Domain,
    entry,
    ipc::Notification,
    operation::Hardware,
    space::{
        Space,
        edit::ZeroOptions,
        map::{self, Mapping},
    },
    thread::Thread,
};
use kernel_machine::{
    Mode,
    object::{Ref, epoch},
    on_cpu,
};
use models::world::{Outcome, World, limits, use_of};

const WRITE: Access = Access::READ.union(Access::WRITE);

fn hold(domain: &Ref<Domain>) -> Ref<Space> {
    Space::create(domain, SpaceUse::Hold, None, false).unwrap()
}

/// A frozen Space with one page.
fn frozen(domain: &Ref<Domain>, page: u64) -> Ref<Space> {
    let space = hold(domain);
    space.zero(page, 1, WRITE, ZeroOptions { populate: true, ..ZeroOptions::default() }).unwrap();
    while !space.freeze().unwrap() {}
    space
}

fn share(to: &Ref<Space>, from: &Ref<Space>, page: u64) {
    let mapping = Mapping {
        to: page,
        from: page,
        pages: 1,
        mode: MapMode::Share,
        access: Access::READ,
        may_execute: false,
        shared: false,
    };
    assert_eq!(map::map(to.borrow(), from.borrow(), mapping, &epoch::enter()), Ok(1));
}

/// A Space is known by the number of a frame, which another one gets later: that one's borrows are others.
#[test]
fn a_space_with_the_number_of_a_former_one_lends_what_it_borrows_itself() {
    let world = World::boot(4096, 1);
    let (lender, borrower) = (world.domain(), world.domain());
    let (first, second) = (frozen(&lender, 0), frozen(&lender, 1));
    let view = hold(&borrower);
    let between = hold(&borrower);
    share(&between, &first, 0);
    share(&view, &between, 0);
    let number = between.identity();
    Space::destroy(between.borrow());
    drop(between);
    world.settle();
    let others: Vec<_> = (0..512).map(|_| hold(&borrower)).collect();
    let again =
        others.iter().find(|space| space.identity() == number).expect("the frame is used again");
    share(again, &second, 1);
    share(&view, again, 1);
    others.iter().for_each(|space| Space::destroy(space.borrow()));
    drop(others);
    Space::destroy(first.borrow());
    Space::destroy(second.borrow());
    drop((first, second));
    world.settle();
    let pages_and_tables = 2 * (1 + 4);
    assert!(use_of(&lender)[0] >= pages_and_tables, "a page that is still mapped was given back");
}

/// An operation that has found a Space alive may come to it when it has been torn down.
#[test]
fn nothing_comes_into_a_space_that_is_gone() {
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let domain = world.domain();
    let (gone, other) = (hold(&domain), frozen(&domain, 0));
    Space::destroy(gone.borrow());
    world.settle();
    assert_eq!(gone.zero(0, 1, WRITE, ZeroOptions::default()), Err(Error::Frozen));
    assert_eq!(gone.freeze(), Err(Error::Frozen));
    let mapping = Mapping {
        to: 0,
        from: 0,
        pages: 1,
        mode: MapMode::Private,
        access: WRITE,
        may_execute: false,
        shared: false,
    };
    let mapped = map::map(gone.borrow(), other.borrow(), mapping, &epoch::enter());
    assert_eq!(mapped, Err(Error::Frozen));
    Domain::destroy(domain.borrow());
    drop((domain, gone, other));
    assert_eq!(world.ledger(), before);
}

#[test]
fn a_child_stays_on_the_cpus_of_its_compartment() {
    let world = World::boot(4096, 2);
    let compartment = world.domain();
    compartment.schedule.set(DEFAULT_WEIGHT, UNLIMITED, 1, 0b01, false);
    let child = Domain::child(&compartment, limits(500, 100)).unwrap();
    let home = world.home(&child);
    let thread = Thread::create(&child, home, None).unwrap();
    assert_eq!(thread.cpus() & 0b11, 0b01);
    child.schedule.set(DEFAULT_WEIGHT, UNLIMITED, 1, 0b10, false);
    assert_eq!(
        thread.cpus() & 0b11,
        0b01,
        "a set that has none of the compartment's does not count"
    );
}

#[test]
fn the_line_on_a_death_counts_against_what_a_compartment_may_log() {
    let world = World::boot(4096, 1);
    let compartment = world.domain();
    let logged = || {
        compartment.log_allowance.load(std::sync::atomic::Ordering::Relaxed) & u64::from(u32::MAX)
    };
    for deaths in 1..=2 {
        let child = Domain::child(&compartment, limits(500, 100)).unwrap();
        let actor = world.actor(&child, 0);
        world.make_current(&actor);
        on_cpu(0, || entry::on_exception(Mode::Home, 6, 6, 0));
        assert!(child.borrow().is_dead());
        assert!(logged() >= deaths * 80, "{} bytes", logged());
    }
}

#[test]
fn device_memory_beyond_what_a_frame_number_reaches_is_refused() {
    let world = World::boot(4096, 1);
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    world.grant(&domain, 5, Hardware::create(&domain).unwrap().into_any(), Rights::ALL);
    let map = |address| world.operate(&actor, Operation::HardwareMemory, &[5, 6, address, 1]);
    assert_eq!(map(1 << 44), Outcome::Done(Err(Error::BadArgument)));
    assert_eq!(map((1 << 44) - 4096).value(), 0);
}

/// A thread has found an object when another one takes its last reference away: asking for a reference changes nothing, however often it
/// is done. (A count that went below zero would hand out references to memory that is used for something else.)
#[test]
fn an_object_without_references_gives_none() {
    let world = World::boot(4096, 1);
    let before = world.ledger();
    let domain = world.domain();
    let made = Notification::create(&domain).unwrap();
    world.grant(&domain, 7, made.into_any(), Rights::ALL);
    let section = epoch::enter();
    let found = domain.lookup(7, &section).unwrap();
    let typed = found.get::<Notification>(Rights::ALL).unwrap();
    assert!(Domain::remove(domain.borrow(), 7));
    for _ in 0..3 {
        assert!(found.object.to_ref().is_none());
        assert!(typed.to_ref().is_none());
    }
    drop(section);
    Domain::destroy(domain.borrow());
    drop(domain);
    assert_eq!(world.ledger(), before);
}
