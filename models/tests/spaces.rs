//! Spaces: every rule by its name, then random programs, on the model and on the kernel at once.

use kernel_abi::{
    Error,
    space::{Access, MapMode, PageState, SpaceUse},
};
use models::{
    space::{Mapping, Page},
    twin::{Twin, mapping},
};
use proptest::{
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
    sample::select,
};

const NONE: Access = Access::empty();
const READ: Access = Access::READ;
const WRITE: Access = Access::READ.union(Access::WRITE);
const EXECUTE: Access = Access::READ.union(Access::EXECUTE);
const ALL: Access = Access::all();

/// Two that hold memory, one in another Domain, and two guests.
const HELD: usize = 0;
const OTHER: usize = 1;
const FOREIGN: usize = 2;
const GUEST: usize = 3;
const CHILD: usize = 4;
const SPACES: [(SpaceUse, usize); 5] = [
    (SpaceUse::Hold, 0),
    (SpaceUse::Hold, 0),
    (SpaceUse::Hold, 1),
    (SpaceUse::Guest, 0),
    (SpaceUse::Guest, 0),
];

fn twin() -> Twin {
    Twin::new(&SPACES)
}

fn promise(access: Access) -> Page {
    Page::promise(access, false, false)
}

fn state(twin: &Twin, space: usize, page: usize) -> Option<(PageState, Access)> {
    twin.memory.page(space, page).map(|page| (page.state(), page.access))
}

#[test]
fn zeros_are_promised_at_every_level_and_given_on_first_touch() {
    let mut twin = twin();
    assert_eq!(twin.zero(HELD, 0, 2048, promise(WRITE), false), (2048, None));
    twin.touch(HELD, 700, WRITE).unwrap();
    assert_eq!(state(&twin, HELD, 700), Some((PageState::Present, WRITE)));
    assert_eq!(state(&twin, HELD, 701), Some((PageState::Zero, WRITE)));
    assert_eq!(twin.zero(HELD, 700, 1, promise(WRITE), false), (0, Some(Error::Overlap)));
    twin.finish();
}

#[test]
fn a_guest_that_only_reads_gets_the_page_of_zeros() {
    let mut twin = twin();
    twin.zero(GUEST, 0, 4, promise(WRITE), false);
    twin.zero(GUEST, 4, 1, Page::promise(WRITE, false, true), false);
    twin.touch(GUEST, 0, READ).unwrap();
    twin.touch(GUEST, 4, READ).unwrap();
    assert_eq!(state(&twin, GUEST, 0), Some((PageState::Borrowed, WRITE)));
    assert_eq!(state(&twin, GUEST, 4), Some((PageState::Present, WRITE)), "shared pages are real");
    twin.write(GUEST, 0, 7).unwrap();
    assert_eq!(twin.read(GUEST, 0), Some(7));
    assert_eq!(twin.read(GUEST, 1), Some(0));
    twin.finish();
}

#[test]
fn protect_only_narrows() {
    let mut twin = twin();
    twin.zero(GUEST, 0, 1, promise(READ), true);
    assert_eq!(twin.protect(GUEST, 0, 1, WRITE), (0, Some(Error::MissingRight)));
    assert_eq!(twin.protect(GUEST, 0, 1, EXECUTE), (0, Some(Error::MissingRight)));
    twin.zero(GUEST, 1, 1, promise(WRITE), true);
    for access in [NONE, READ, WRITE, NONE, WRITE] {
        assert_eq!(twin.protect(GUEST, 1, 1, access), (1, None));
        twin.compare();
    }
    twin.finish();
}

#[test]
fn without_access_a_page_keeps_its_frame() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), false);
    twin.write(HELD, 0, 9).unwrap();
    twin.protect(HELD, 0, 1, NONE);
    assert_eq!(twin.touch(HELD, 0, READ), Err(Error::MissingRight));
    twin.protect(HELD, 0, 1, READ);
    assert_eq!(twin.read(HELD, 0), Some(9));
    twin.finish();
}

#[test]
fn a_read_only_mapping_and_a_copy_on_write_one_are_different() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Share, READ));
    twin.map(Mapping { to: (OTHER, 1), ..mapping(OTHER, HELD, 0, 1, MapMode::Private, READ) });
    assert_eq!(twin.protect(OTHER, 0, 1, WRITE), (0, Some(Error::MissingRight)));
    assert_eq!(twin.protect(OTHER, 1, 1, WRITE), (1, None));
    twin.write(OTHER, 1, 5).unwrap();
    assert_eq!(
        (twin.read(HELD, 0), twin.read(OTHER, 0), twin.read(OTHER, 1)),
        (Some(0), Some(0), Some(5))
    );
    twin.finish();
}

#[test]
fn maximum_rights_travel_through_share_move_and_snapshot() {
    let mut twin = twin();
    twin.zero(GUEST, 0, 1, promise(READ), true);
    assert_eq!(
        twin.map(mapping(HELD, GUEST, 0, 1, MapMode::Share, WRITE)),
        (0, Some(Error::MissingRight))
    );
    twin.map(mapping(HELD, GUEST, 0, 1, MapMode::Share, READ));
    twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Move, NONE));
    assert_eq!(twin.protect(OTHER, 0, 1, WRITE), (0, Some(Error::MissingRight)));
    assert_eq!(twin.protect(OTHER, 0, 1, EXECUTE), (0, Some(Error::MissingRight)));
    twin.map(mapping(CHILD, GUEST, 0, 1, MapMode::Snapshot, NONE));
    assert_eq!(twin.protect(CHILD, 0, 1, WRITE), (0, Some(Error::MissingRight)));
    twin.finish();
}

/// Also where whole tables of promises are mapped by one entry.
#[test]
fn private_promises_are_executable_only_if_their_source_may_be() {
    let mut twin = twin();
    // Neighbours, so that the tables above exist.
    twin.zero(GUEST, 600, 1, promise(READ), false);
    twin.zero(CHILD, 600, 1, promise(READ), false);
    twin.zero(GUEST, 0, 512, promise(READ), false);
    for pages in [512, 1] {
        let private = mapping(CHILD, GUEST, 0, pages, MapMode::Private, EXECUTE);
        assert_eq!(twin.map(private), (0, Some(Error::MissingRight)), "{pages} pages");
    }
    twin.finish();
}

#[test]
fn holes_stay_holes_but_across_domains_they_are_an_error() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    assert_eq!(twin.map(mapping(OTHER, HELD, 0, 3, MapMode::Share, READ)), (3, None));
    assert_eq!(
        twin.map(mapping(FOREIGN, HELD, 0, 3, MapMode::Share, READ)),
        (1, Some(Error::Hole))
    );
    assert_eq!(state(&twin, OTHER, 1), None);
    twin.finish();
}

#[test]
fn sharing_gives_the_source_its_frames_first() {
    let mut twin = twin();
    twin.zero(HELD, 0, 2, promise(WRITE), false);
    twin.map(mapping(FOREIGN, HELD, 0, 2, MapMode::Share, WRITE));
    twin.write(FOREIGN, 1, 3).unwrap();
    assert_eq!(twin.read(HELD, 1), Some(3));
    assert_eq!(state(&twin, HELD, 0), Some((PageState::Present, WRITE)));
    twin.finish();
}

#[test]
fn private_makes_only_the_destination_copy_on_write() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Private, WRITE));
    assert_eq!(state(&twin, HELD, 0), Some((PageState::Present, WRITE)));
    twin.write(HELD, 0, 1).unwrap();
    assert_eq!(twin.read(OTHER, 0), Some(1), "unspecified on Linux, the source's here");
    twin.write(OTHER, 0, 2).unwrap();
    twin.write(HELD, 0, 3).unwrap();
    assert_eq!((twin.read(HELD, 0), twin.read(OTHER, 0)), (Some(3), Some(2)));
    twin.finish();
}

#[test]
fn a_snapshot_separates_private_pages_and_keeps_shared_ones() {
    let mut twin = twin();
    twin.zero(GUEST, 0, 1, promise(WRITE), false);
    twin.zero(GUEST, 1, 1, Page::promise(WRITE, false, true), false);
    twin.zero(GUEST, 2, 1, promise(READ), true);
    twin.write(GUEST, 0, 1).unwrap();
    assert_eq!(twin.map(mapping(CHILD, GUEST, 0, 3, MapMode::Snapshot, NONE)), (3, None));
    twin.write(CHILD, 0, 2).unwrap();
    twin.write(CHILD, 1, 4).unwrap();
    assert_eq!((twin.read(GUEST, 0), twin.read(GUEST, 1)), (Some(1), Some(4)));
    assert_eq!(
        state(&twin, CHILD, 2),
        Some((PageState::Present, READ)),
        "never written, so never copied"
    );
    twin.finish();
}

#[test]
fn the_last_owner_of_a_copy_on_write_page_keeps_it() {
    let mut twin = twin();
    twin.zero(GUEST, 0, 1, promise(WRITE), true);
    twin.map(mapping(CHILD, GUEST, 0, 1, MapMode::Snapshot, NONE));
    twin.unmap(GUEST, 0, 1);
    twin.write(CHILD, 0, 8).unwrap();
    assert_eq!(state(&twin, CHILD, 0), Some((PageState::Present, WRITE)));
    twin.finish();
}

#[test]
fn pinned_pages_stay_where_they_are_and_are_copied_for_a_snapshot() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    twin.write(HELD, 0, 6).unwrap();
    twin.pin(HELD, 0).unwrap();
    assert_eq!(twin.unmap(HELD, 0, 1), (0, Some(Error::FrameInUse)));
    assert_eq!(
        twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Move, NONE)),
        (0, Some(Error::FrameInUse))
    );
    assert_eq!(twin.freeze(HELD), Err(Error::FrameInUse));
    twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Snapshot, NONE));
    twin.write(HELD, 0, 7).unwrap();
    assert_eq!((twin.read(HELD, 0), twin.read(OTHER, 0)), (Some(7), Some(6)));
    twin.finish();
}

#[test]
fn freezing_wants_every_frame_to_itself() {
    let mut twin = twin();
    twin.zero(HELD, 0, 600, promise(WRITE), true);
    twin.map(mapping(OTHER, HELD, 599, 1, MapMode::Share, WRITE));
    assert_eq!(twin.freeze(HELD), Err(Error::FrameInUse));
    twin.write(HELD, 599, 1).unwrap();
    twin.unmap(OTHER, 599, 1);
    twin.freeze(HELD).unwrap();
    assert_eq!(twin.freeze(GUEST), Err(Error::BadArgument));
    twin.finish();
}

#[test]
fn a_frozen_space_is_never_changed_and_never_mapped_writable() {
    let mut twin = twin();
    twin.zero(HELD, 0, 2, promise(WRITE), true);
    twin.write(HELD, 0, 1).unwrap();
    twin.freeze(HELD).unwrap();
    let frozen = (0, Some(Error::Frozen));
    assert_eq!(twin.zero(HELD, 5, 1, promise(READ), false), frozen);
    assert_eq!(twin.protect(HELD, 0, 1, READ), frozen);
    assert_eq!(twin.unmap(HELD, 0, 1), frozen);
    assert_eq!(twin.write(HELD, 0, 2), Err(Error::Frozen));
    for mode in [MapMode::Snapshot, MapMode::Move] {
        assert_eq!(twin.map(mapping(GUEST, HELD, 0, 1, mode, READ)), frozen);
    }
    assert_eq!(twin.map(mapping(GUEST, HELD, 0, 1, MapMode::Share, WRITE)), frozen);
    twin.map(mapping(GUEST, HELD, 0, 1, MapMode::Share, READ));
    assert_eq!(state(&twin, GUEST, 0), Some((PageState::Borrowed, READ)));
    assert_eq!(twin.protect(GUEST, 0, 1, WRITE), (0, Some(Error::MissingRight)));
    twin.map(mapping(CHILD, HELD, 0, 1, MapMode::Private, WRITE));
    twin.write(CHILD, 0, 3).unwrap();
    assert_eq!((twin.read(HELD, 0), twin.read(CHILD, 0)), (Some(1), Some(3)));
    twin.finish();
}

#[test]
fn what_is_borrowed_may_be_borrowed_on() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    twin.write(HELD, 0, 5).unwrap();
    twin.freeze(HELD).unwrap();
    twin.map(mapping(GUEST, HELD, 0, 1, MapMode::Private, WRITE));
    twin.map(mapping(CHILD, GUEST, 0, 1, MapMode::Snapshot, NONE));
    twin.map(mapping(OTHER, CHILD, 0, 1, MapMode::Move, NONE));
    twin.map(mapping(FOREIGN, OTHER, 0, 1, MapMode::Share, READ));
    assert_eq!(twin.read(FOREIGN, 0), Some(5));
    assert_eq!(
        state(&twin, OTHER, 0),
        Some((PageState::Present, WRITE)),
        "to be shared it was copied"
    );
    twin.finish();
}

#[test]
fn what_a_frozen_space_borrows_it_lends_as_it_is() {
    let mut twin = twin();
    twin.zero(HELD, 0, 1, promise(WRITE), true);
    twin.write(HELD, 0, 5).unwrap();
    twin.freeze(HELD).unwrap();
    twin.map(mapping(OTHER, HELD, 0, 1, MapMode::Private, WRITE));
    twin.freeze(OTHER).unwrap();
    twin.map(mapping(FOREIGN, OTHER, 0, 1, MapMode::Share, READ));
    assert_eq!(twin.read(FOREIGN, 0), Some(5));
    assert_eq!(state(&twin, FOREIGN, 0), Some((PageState::Borrowed, READ)));
    assert_eq!(state(&twin, OTHER, 0), Some((PageState::Borrowed, WRITE)), "unchanged");
    twin.finish();
}

/// Who maps a few pages of promises out of a frozen Space must not make its owner pay for tables.
#[test]
fn a_frozen_space_is_not_split() {
    let mut twin = twin();
    twin.zero(FOREIGN, 600, 1, promise(WRITE), false);
    twin.zero(FOREIGN, 0, 512, promise(WRITE), false);
    twin.zero(FOREIGN, 1024, 1024, promise(WRITE), false);
    twin.freeze(FOREIGN).unwrap();
    let before = twin.use_of(1);
    for page in [3, 1030, 1600] {
        assert_eq!(twin.map(mapping(GUEST, FOREIGN, page, 3, MapMode::Private, WRITE)), (3, None));
        assert_eq!(twin.map(mapping(HELD, FOREIGN, page, 3, MapMode::Share, READ)), (3, None));
    }
    assert_eq!(twin.use_of(1), before);
    twin.finish();
}

#[test]
fn one_space_onto_itself_must_not_overlap() {
    let mut twin = twin();
    twin.zero(HELD, 0, 4, promise(WRITE), true);
    let within = |to, pages| Mapping {
        to: (HELD, to),
        ..mapping(HELD, HELD, 0, pages, MapMode::Share, READ)
    };
    assert_eq!(twin.map(within(3, 4)), (0, Some(Error::Overlap)));
    assert_eq!(twin.map(within(4, 4)), (4, None));
    twin.finish();
}

/// One step of a random program.
#[derive(Clone, Debug)]
enum Step {
    Zero { space: usize, range: (usize, usize), promise: Page, populate: bool },
    Protect { space: usize, range: (usize, usize), access: Access },
    Unmap { space: usize, range: (usize, usize) },
    Discard { space: usize, range: (usize, usize) },
    Map(Mapping),
    Freeze(usize),
    Touch { space: usize, page: usize, access: Access },
    Write { space: usize, page: usize, value: u64 },
    Copy { to: (usize, usize), from: (usize, usize) },
    Pin { space: usize, page: usize },
}

/// Pages around the boundaries of tables, and few enough that steps meet.
fn page() -> impl Strategy<Value = usize> {
    prop_oneof![0..6_usize, 508..516_usize, 1020..1026_usize]
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        6 => (page(), 1..5_usize),
        1 => (select(vec![0, 512, 1024]), select(vec![512, 513, 1024])),
        1 => (page(), 200..900_usize),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    select(vec![NONE, READ, READ, WRITE, WRITE, WRITE, EXECUTE, ALL])
}

fn space() -> impl Strategy<Value = usize> {
    0..SPACES.len()
}

fn steps() -> impl Strategy<Value = Step> {
    let mode = select(vec![MapMode::Share, MapMode::Private, MapMode::Snapshot, MapMode::Move]);
    let map = (
        space(),
        space(),
        range(),
        page(),
        mode,
        access(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        4 => (space(), range(), access(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(space, range, access, may_execute, is_shared, populate)| {
                let populate = populate && range.1 < 600;
                Step::Zero { space, range, promise: Page::promise(access, may_execute, is_shared), populate }
            }
        ),
        2 => (space(), range(), access()).prop_map(|(space, range, access)| Step::Protect { space, range, access }),
        2 => (space(), range()).prop_map(|(space, range)| Step::Unmap { space, range }),
        2 => (space(), range()).prop_map(|(space, range)| Step::Discard { space, range }),
        8 => map.prop_map(|(to, from, range, other, mode, access, aligned, may_execute, is_shared)| {
            let target = if aligned { range.0 } else { other };
            // The operation asks for an executable right before it maps executable.
            let may_execute = may_execute || access.contains(Access::EXECUTE);
            let (to, from) = ((to, target), (from, range.0));
            Step::Map(Mapping { to, from, pages: range.1, mode, access, may_execute, is_shared })
        }),
        1 => space().prop_map(Step::Freeze),
        3 => (space(), page(), select(vec![READ, WRITE, EXECUTE]))
            .prop_map(|(space, page, access)| Step::Touch { space, page, access }),
        6 => (space(), page(), 1..1000_u64).prop_map(|(space, page, value)| Step::Write { space, page, value }),
        1 => (space(), page(), space(), page()).prop_map(|(a, b, c, d)| Step::Copy { to: (a, b), from: (c, d) }),
        1 => (space(), page()).prop_map(|(space, page)| Step::Pin { space, page }),
        1 => Just(Step::Map(mapping(CHILD, GUEST, 0, 1024, MapMode::Snapshot, NONE))),
    ]
}

fn play(twin: &mut Twin, step: &Step) {
    match *step {
        Step::Zero { space, range, promise, populate } => {
            let _ = twin.zero(space, range.0, range.1, promise, populate);
        }
        Step::Protect { space, range, access } => {
            let _ = twin.protect(space, range.0, range.1, access);
        }
        Step::Unmap { space, range } => {
            let _ = twin.unmap(space, range.0, range.1);
        }
        Step::Discard { space, range } => {
            let _ = twin.discard(space, range.0, range.1);
        }
        Step::Map(mapping) => {
            let _ = twin.map(mapping);
        }
        Step::Freeze(space) => {
            let _ = twin.freeze(space);
        }
        Step::Touch { space, page, access } => {
            let _ = twin.touch(space, page, access);
        }
        Step::Write { space, page, value } => {
            let _ = twin.write(space, page, value);
        }
        Step::Copy { to, from } => {
            let _ = twin.copy(to, from);
        }
        Step::Pin { space, page } => {
            let _ = twin.pin(space, page);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_does_what_the_model_says(steps in proptest::collection::vec(steps(), 1..40)) {
        let mut twin = twin();
        for step in &steps {
            play(&mut twin, step);
        }
        twin.finish();
    }
}
