//! Spaces that die, freeze or are entered while another CPU maps, copies or resolves in them.

use super::{WRITE, act, at_once, idle_once, linger, orders, orders_times};
use kernel_abi::space::{Access, MapMode, SpaceUse};
use kernel_core::{
    counter::{self, Counter},
    domain::Domain,
    space::{
        Space,
        edit::ZeroOptions,
        inspect,
        map::{self, Mapping},
        shootdown,
    },
};
use kernel_machine::{
    Frame,
    object::{Ref, epoch},
};
use models::world::World;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The word that a walk from a root over some levels of tables ends at, for page 0.
fn walked_to(root: Frame, levels: u32) -> u64 {
    let step = |table: u64, _| {
        kernel_machine::table(Frame::containing(table & kernel_machine::entry::FRAME_MASK))[0]
            .load(Ordering::Relaxed)
    };
    (0..levels).fold(root.address(), step)
}

fn mapping(pages: u64, mode: MapMode, access: Access) -> Mapping {
    Mapping { to: 0, from: 0, pages, mode, access, may_execute: false, shared: false }
}

/// A hold Space with populated pages.
fn filled(domain: &Ref<Domain>, pages: u64) -> Ref<Space> {
    let space = Space::create(domain, SpaceUse::Hold, None, false).unwrap();
    let mut done = 0;
    while done < pages {
        let options = ZeroOptions { populate: true, ..ZeroOptions::default() };
        done += space.zero(done, pages - done, WRITE, options).unwrap();
    }
    space
}

#[test]
fn a_frozen_space_that_dies_while_it_is_mapped_lends_all_or_nothing() {
    const PAGES: u64 = 260;
    orders(|| {
        let world = Arc::new(World::boot(2048, 3));
        let (lender, borrower) = (world.domain(), world.domain());
        let source = filled(&lender, PAGES);
        while !source.freeze().unwrap() {}
        let view = Space::create(&borrower, SpaceUse::Hold, None, false).unwrap();
        let (to, from, dies) = (view.clone(), source.clone(), source);
        let borrows = act(move || {
            let section = epoch::enter();
            let mapping = mapping(PAGES, MapMode::Share, Access::READ);
            let _ = map::map(to.borrow(), from.borrow(), mapping, &section);
        });
        let destroys = act(move || {
            Space::destroy(dies.borrow());
            drop(dies);
            (0..4).for_each(|_| idle_once());
        });
        at_once(vec![(0, borrows), (1, destroys)]);
        world.settle();
        let is_lent = view.query(0, PAGES).is_ok();
        let used = models::world::use_of(&lender)[0];
        assert!(!is_lent || used >= PAGES, "borrowed, but only {used} frames are left");
    });
}

/// A CPU that begins to run in a Space while another one breaks copy-on-write there sees the copy, or is told to forget.
#[test]
fn a_cpu_that_enters_a_space_while_a_page_is_copied_keeps_no_old_translation() {
    orders_times(20, || {
        let world = World::boot(1024, 2);
        let domain = world.domain();
        let home = world.home(&domain);
        let child = Space::create(&domain, SpaceUse::Hold, None, false).unwrap();
        let options = ZeroOptions { populate: true, ..ZeroOptions::default() };
        home.zero(0, 1, WRITE, options).unwrap();
        let snapshot = mapping(1, MapMode::Snapshot, Access::empty());
        map::map(child.borrow(), home.borrow(), snapshot, &epoch::enter()).unwrap();
        let root = Frame::new(u32::try_from(home.identity()).unwrap());
        let leaf = Frame::containing(walked_to(root, 2) & kernel_machine::entry::FRAME_MASK);
        let word = &kernel_machine::table(leaf)[0];
        let seen = Arc::new(AtomicU64::new(0));
        let flushes = || counter::read(Counter::Shootdowns as usize).unwrap().0;
        let before = flushes();
        let (copied, note) = (home.clone(), Arc::clone(&seen));
        at_once(vec![
            (0, act(move || copied.resolve(0, WRITE).unwrap())),
            (
                1,
                act(move || {
                    linger(120);
                    shootdown::publish(u64::from(root.number()), 0);
                    note.store(word.load(Ordering::Relaxed), Ordering::SeqCst);
                    shootdown::settle();
                }),
            ),
        ]);
        let (seen, now) = (seen.load(Ordering::SeqCst), word.load(Ordering::Relaxed));
        let is_stale = seen & kernel_machine::entry::PRESENT != 0 && seen != now;
        assert!(!is_stale || flushes() > before, "{seen:#x} is remembered, {now:#x} is true");
    });
}

#[test]
fn nothing_is_copied_into_a_space_once_it_is_frozen() {
    orders(|| {
        let world = World::boot(1024, 2);
        let domain = world.domain();
        let (target, source) = (filled(&domain, 1), filled(&domain, 1));
        let frame = |space: &Ref<Space>| {
            let root = Frame::new(u32::try_from(space.identity()).unwrap());
            Frame::containing(walked_to(root, 4) & kernel_machine::entry::FRAME_MASK)
        };
        kernel_machine::table(frame(&source))[0].store(7, Ordering::Relaxed);
        let target_frame = frame(&target);
        let when_frozen = Arc::new(AtomicU64::new(u64::MAX));
        let (to, freezes, note) = (target.clone(), target, Arc::clone(&when_frozen));
        at_once(vec![
            (
                0,
                act(move || {
                    let _section = epoch::enter();
                    let _ = inspect::copy(to.borrow(), 0, source.borrow(), 0, 1);
                }),
            ),
            (
                1,
                act(move || {
                    if freezes.freeze() == Ok(true) {
                        let word = kernel_machine::table(target_frame)[0].load(Ordering::SeqCst);
                        note.store(word, Ordering::SeqCst);
                    }
                }),
            ),
        ]);
        let (then, now) = (
            when_frozen.load(Ordering::SeqCst),
            kernel_machine::table(target_frame)[0].load(Ordering::SeqCst),
        );
        assert!(then == u64::MAX || then == now, "{then} has become {now}");
        drop(domain);
    });
}
