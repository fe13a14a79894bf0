//! Spaces: every operation, its rights and errors, and ranges of every size.

mod extremes;

use crate::{
    check,
    check::{Must, Outcome},
    refused,
    run::Case,
    same,
    world::{Sandbox, World},
};
use alloc::string::String;
use rt::{
    Domain, Error, Space,
    abi::{
        Operation, PAGE_SIZE, Rights,
        layout::{GUEST_MAX, GUEST_MIN, HOME_SIZE, SPACE_SIZE},
        resource::Resource,
        space::{Access, MapMode, PageState, SpaceUse},
    },
    arch::call,
    object, slots, startup,
    view::View,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "space.create_errors", run: create_errors },
    Case { name: "space.zero_and_query", run: zero_and_query },
    Case { name: "space.zero_may_execute", run: zero_may_execute },
    Case { name: "space.ranges", run: ranges },
    Case { name: "space.rights", run: rights },
    Case { name: "space.map_share", run: map_share },
    Case { name: "space.map_private", run: map_private },
    Case { name: "space.map_snapshot", run: map_snapshot },
    Case { name: "space.map_move", run: map_move },
    Case { name: "space.map_errors", run: map_errors },
    Case { name: "space.maximum_travels", run: maximum_travels },
    Case { name: "space.protect", run: protect },
    Case { name: "space.discard", run: discard },
    Case { name: "space.freeze", run: freeze },
    Case { name: "space.copy_and_resolve", run: copy_and_resolve },
    Case { name: "space.pin", run: pin },
    Case { name: "space.zeroing_keeps_registers", run: extremes::zeroing_keeps_registers },
    Case { name: "space.whole_range_in_slices", run: extremes::whole_range_in_slices },
    Case { name: "space.destroyed_source", run: extremes::destroyed_source },
];

const READ: Access = Access::READ;
const WRITE: Access = Access::READ.union(Access::WRITE);
const POPULATE: u64 = 1 << 8;
const MAY_EXECUTE: u64 = 1 << 10;

fn hold() -> Result<Space, String> {
    Space::create(Domain::OWN, SpaceUse::Hold, None).must("Space")
}

/// State of a page by its query word.
fn state(space: Space, page: u64) -> Option<(u64, u64)> {
    space.query(page * PAGE_SIZE, 1).ok().map(|(_, word)| (word & 0xff, word >> 8 & 0xff))
}

fn is(space: Space, page: u64, wanted: PageState, access: Access) -> bool {
    state(space, page) == Some((wanted as u64, access.bits().into()))
}

fn create_errors(_: &'static World) -> Outcome {
    let create = |domain: u64, slot: u64, used: u64, home: u64| {
        call(Operation::SpaceCreate, [domain, slot, used, home, 0, 0]).map(|_| ())
    };
    let free = u64::from(slots::take().must("slot")?);
    let home = u64::from(startup::home_space().slot());
    refused!(create(0, home, 0, 0), SlotOccupied);
    refused!(create(0, free, 3, 0), BadArgument);
    refused!(create(0, free, u64::MAX, 0), BadArgument);
    refused!(create(0, free, 2, 0), NoCapability);
    let space = hold()?;
    refused!(create(0, free, 2, space.slot().into()), BadArgument);
    let weak = slots::take().must("slot")?;
    object::copy(startup::home_space().slot(), Domain::OWN, weak, Rights::EDIT).must("copy")?;
    refused!(create(0, free, 2, weak.into()), MissingRight);
    object::delete(weak);
    space.destroy().must("destroy")
}

fn zero_and_query(_: &'static World) -> Outcome {
    let space = hold()?;
    refused!(space.query(0, 1), NotPresent);
    refused!(space.query(0, SPACE_SIZE / PAGE_SIZE), NotPresent);
    space.zero(5 * PAGE_SIZE, 3, READ, 0).must("zero")?;
    space.zero(9 * PAGE_SIZE, 1, WRITE, POPULATE).must("populate")?;
    let (offset, word) = space.query(0, 100).must("query")?;
    same!((offset, word & 0xff, word >> 32), (5 * PAGE_SIZE, PageState::Zero as u64, 2));
    check!(is(space, 9, PageState::Present, WRITE), "populated: {:?}", state(space, 9));
    refused!(space.zero(0, 8, READ, 0), Overlap);
    check!(is(space, 0, PageState::Zero, READ), "the prefix is done");
    for bad in [Access::WRITE, Access::WRITE | Access::EXECUTE, Access::all()] {
        refused!(space.zero(50 * PAGE_SIZE, 1, bad, 0), BadArgument);
    }
    for bit in (4..8).chain(12..64) {
        refused!(space.zero(50 * PAGE_SIZE, 1, READ, 1 << bit), BadArgument);
    }
    space.unmap(0, 100).must("unmap")?;
    refused!(space.query(0, 100), NotPresent);
    space.destroy().must("destroy")
}

/// Frames go back, rights stay; what comes next is zero, also where a stale translation could show what was there.
fn discard(_: &'static World) -> Outcome {
    let view = View::zeroed(600).must("view")?;
    let (home, at) = (startup::home_space(), view.offset());
    for page in [0, 1, 300, 599] {
        view.write(page * PAGE_SIZE as usize, &[7; 8]).must("write")?;
    }
    home.protect(at, 1, READ).must("protect")?;
    let before = Domain::OWN.stat(Resource::Frames).must("stat")?.used;
    home.discard(at, 600).must("discard")?;
    let after = Domain::OWN.stat(Resource::Frames).must("stat")?.used;
    check!(before - after >= 4, "{} frames came back", before - after);
    let mut bytes = [1; 8];
    for page in [0, 1, 300, 599] {
        view.read(page * PAGE_SIZE as usize, &mut bytes).must("read")?;
        same!(bytes, [0; 8]);
    }
    check!(is(home, at / PAGE_SIZE, PageState::Present, READ), "{:?}", state(home, at / PAGE_SIZE));
    view.write(PAGE_SIZE as usize, &[9; 8]).must("still writable")?;
    let space = hold()?;
    space.discard(0, 10).must("holes stay")?;
    refused!(space.query(0, 10), NotPresent);
    refused!(space.discard(1, 1), BadArgument);
    space.destroy().must("destroy")
}

/// Pages become executable later only if they were made for it; those of a Space that only holds memory always are.
fn zero_may_execute(_: &'static World) -> Outcome {
    let home = startup::home_space();
    let guest = Space::create(Domain::OWN, SpaceUse::Guest, Some(home)).must("guest")?;
    let execute = READ | Access::EXECUTE;
    let at = |page: u64| GUEST_MIN + page * PAGE_SIZE;
    guest.zero(at(0), 2, WRITE, 0).must("zero")?;
    guest.zero(at(2), 2, WRITE, MAY_EXECUTE).must("zero that may become code")?;
    guest.zero(at(4), 1, execute, 0).must("zero that is code")?;
    guest.resolve(at(1), 1, WRITE).must("touch")?;
    guest.resolve(at(3), 1, WRITE).must("touch")?;
    for page in 0..2 {
        refused!(guest.protect(at(page), 1, execute), MissingRight);
        guest.protect(at(2 + page), 1, execute).must("becomes code")?;
    }
    guest.protect(at(4), 1, READ).must("code becomes data")?;
    guest.protect(at(4), 1, execute).must("and code again")?;
    let held = hold()?;
    held.zero(0, 1, WRITE, 0).must("zero")?;
    held.protect(0, 1, execute).must("held pages keep the right")?;
    held.destroy().must("destroy")?;
    guest.destroy().must("destroy")
}

fn ranges(_: &'static World) -> Outcome {
    let space = hold()?;
    let guest =
        Space::create(Domain::OWN, SpaceUse::Guest, Some(startup::home_space())).must("guest")?;
    let home = Space::create(Domain::OWN, SpaceUse::Home, None).must("home")?;
    let last = SPACE_SIZE - PAGE_SIZE;
    for (space, offset, pages) in [
        (space, 1, 1),
        (space, 0, 0),
        (space, SPACE_SIZE, 1),
        (space, last, 2),
        (space, u64::MAX - 4095, 1),
        (space, last, u64::MAX),
        (space, 0, u64::MAX),
        (space, 0, 1 << 52),
        (guest, 0, 1),
        (guest, GUEST_MIN - PAGE_SIZE, 1),
        (guest, GUEST_MAX, 1),
        (guest, GUEST_MIN, 1 << 36),
        (home, HOME_SIZE, 1),
        (home, HOME_SIZE - PAGE_SIZE, 2),
        (home, u64::MAX, u64::MAX),
    ] {
        let zero = call(Operation::SpaceZero, [space.slot().into(), offset, pages, 1, 0, 0]);
        check!(zero == Err(Error::BadArgument), "zero {offset:#x} {pages:#x}: {zero:?}");
        for operation in [
            Operation::SpaceProtect,
            Operation::SpaceUnmap,
            Operation::SpaceQuery,
            Operation::SpaceResolve,
        ] {
            let result = call(operation, [space.slot().into(), offset, pages, 1, 0, 0]);
            check!(
                result == Err(Error::BadArgument),
                "{operation:?} {offset:#x} {pages:#x}: {result:?}"
            );
        }
        let map = call(
            Operation::SpaceMap,
            [space.slot().into(), offset, startup::home_space().slot().into(), 0, pages, 1 << 16],
        );
        check!(map == Err(Error::BadArgument), "map {offset:#x} {pages:#x}: {map:?}");
        let map = call(
            Operation::SpaceMap,
            [startup::home_space().slot().into(), 0, space.slot().into(), offset, pages, 1 << 16],
        );
        check!(map == Err(Error::BadArgument), "map from {offset:#x} {pages:#x}: {map:?}");
    }
    space.zero(last, 1, WRITE, POPULATE).must("last page")?;
    guest.zero(GUEST_MAX - PAGE_SIZE, 1, WRITE, POPULATE).must("last guest page")?;
    home.zero(HOME_SIZE - PAGE_SIZE, 1, WRITE, POPULATE).must("last home page")?;
    for space in [space, guest, home] {
        space.destroy().must("destroy")?;
    }
    Ok(())
}

fn rights(_: &'static World) -> Outcome {
    let space = hold()?;
    let other = hold()?;
    space.zero(0, 4, WRITE, POPULATE).must("zero")?;
    let weak = slots::take().must("slot")?;
    object::copy(space.slot(), Domain::OWN, weak, Rights::empty()).must("copy")?;
    let weak = Space(weak);
    refused!(weak.zero(8 * PAGE_SIZE, 1, READ, 0), MissingRight);
    refused!(weak.unmap(0, 1), MissingRight);
    refused!(weak.protect(0, 1, READ), MissingRight);
    refused!(weak.resolve(0, 1, READ), MissingRight);
    refused!(weak.query(0, 1), MissingRight);
    refused!(weak.freeze(), MissingRight);
    refused!(weak.copy_from(0, other, 0, 1), MissingRight);
    refused!(other.copy_from(0, weak, 0, 1), MissingRight);
    refused!(weak.map(0, other, 0, 1, MapMode::Share, READ, false), MissingRight);
    for mode in [MapMode::Share, MapMode::Private, MapMode::Snapshot, MapMode::Move] {
        refused!(other.map(0, weak, 0, 1, mode, READ, false), MissingRight);
    }
    weak.forget();
    let reader = slots::take().must("slot")?;
    object::copy(space.slot(), Domain::OWN, reader, Rights::MAP_READ).must("copy")?;
    let reader = Space(reader);
    refused!(other.map(0, reader, 0, 1, MapMode::Share, WRITE, false), MissingRight);
    refused!(
        other.map(0, reader, 0, 1, MapMode::Share, READ | Access::EXECUTE, false),
        MissingRight
    );
    refused!(other.map(0, reader, 0, 1, MapMode::Snapshot, READ, false), MissingRight);
    refused!(other.map(0, reader, 0, 1, MapMode::Move, READ, false), MissingRight);
    other.map(0, reader, 0, 1, MapMode::Share, READ, false).must("share")?;
    refused!(other.protect(0, 1, WRITE), MissingRight);
    // Mapped without any access, a page gives none later.
    other
        .map(PAGE_SIZE, reader, 0, 1, MapMode::Share, Access::empty(), false)
        .must("share nothing")?;
    refused!(other.protect(PAGE_SIZE, 1, WRITE), MissingRight);
    reader.forget();
    space.destroy().must("destroy")?;
    other.destroy().must("destroy")
}

fn map_share(_: &'static World) -> Outcome {
    let space = hold()?;
    space.zero(0, 8, WRITE, 0).must("zero")?;
    let (one, two) =
        (View::map(space, 0, 8, WRITE).must("view")?, View::map(space, 0, 8, READ).must("view")?);
    for page in 0..8 {
        let at = page * PAGE_SIZE as usize;
        // SAFETY: the view is writable and has that many pages.
        unsafe { one.pointer().wrapping_add(at).write_volatile(page as u8 + 1) };
        // SAFETY: the other view shows the same pages.
        let seen = unsafe { two.pointer().wrapping_add(at).read_volatile() };
        same!(seen, page as u8 + 1);
    }
    // Holes of the source stay holes within one Domain.
    let other = hold()?;
    other.map(0, space, 7 * PAGE_SIZE, 4, MapMode::Share, READ, false).must("share with holes")?;
    check!(
        is(other, 0, PageState::Present, READ) && state(other, 1).is_none(),
        "{:?}",
        state(other, 0)
    );
    drop(one);
    drop(two);
    other.destroy().must("destroy")?;
    space.destroy().must("destroy")
}

fn write(view: &View, value: u64) {
    // SAFETY: the view is writable and at least a page long.
    unsafe { view.pointer().cast::<u64>().write_volatile(value) };
}

fn read(view: &View) -> u64 {
    // SAFETY: the view is readable and at least a page long.
    unsafe { view.pointer().cast::<u64>().read_volatile() }
}

fn map_private(_: &'static World) -> Outcome {
    let (source, copy) = (hold()?, hold()?);
    source.zero(0, 1, WRITE, POPULATE).must("zero")?;
    let original = View::map(source, 0, 1, WRITE).must("view")?;
    write(&original, 11);
    copy.map(0, source, 0, 1, MapMode::Private, WRITE, false).must("private")?;
    check!(is(copy, 0, PageState::Cow, WRITE), "{:?}", state(copy, 0));
    let private = View::map(copy, 0, 1, WRITE).must("view of the copy")?;
    same!(read(&private), 11);
    write(&private, 22);
    same!((read(&original), read(&private)), (11, 22));
    check!(is(source, 0, PageState::Present, WRITE), "the source is untouched");
    drop((original, private));
    copy.destroy().must("destroy")?;
    source.destroy().must("destroy")
}

fn map_snapshot(_: &'static World) -> Outcome {
    let (parent, child) = (hold()?, hold()?);
    parent.zero(0, 1, WRITE, POPULATE).must("private page")?;
    parent.zero(PAGE_SIZE, 1, WRITE, POPULATE | 1 << 9).must("shared page")?;
    child.map(0, parent, 0, 2, MapMode::Snapshot, Access::empty(), false).must("snapshot")?;
    check!(
        is(child, 0, PageState::Cow, WRITE) && is(parent, 0, PageState::Cow, WRITE),
        "{:?} {:?}",
        state(child, 0),
        state(parent, 0)
    );
    check!(
        is(child, 1, PageState::Present, WRITE),
        "the shared page stays shared: {:?}",
        state(child, 1)
    );
    parent.resolve(0, 1, WRITE).must("break")?;
    check!(is(parent, 0, PageState::Present, WRITE), "{:?}", state(parent, 0));
    child.resolve(0, 1, WRITE).must("break")?;
    check!(is(child, 0, PageState::Present, WRITE), "{:?}", state(child, 0));
    let (one, two) =
        (View::map(parent, 0, 1, WRITE).must("view")?, View::map(child, 0, 1, WRITE).must("view")?);
    write(&one, 1);
    write(&two, 2);
    same!((read(&one), read(&two)), (1, 2));
    drop((one, two));
    let (one, two) = (
        View::map(parent, PAGE_SIZE, 1, WRITE).must("view")?,
        View::map(child, PAGE_SIZE, 1, WRITE).must("view")?,
    );
    write(&one, 3);
    same!(read(&two), 3);
    drop((one, two));
    child.destroy().must("destroy")?;
    parent.destroy().must("destroy")
}

fn map_move(_: &'static World) -> Outcome {
    let (from, to) = (hold()?, hold()?);
    from.zero(0, 600, WRITE, POPULATE).must("zero")?;
    to.map(100 * PAGE_SIZE, from, 0, 600, MapMode::Move, Access::empty(), false).must("move")?;
    refused!(from.query(0, 600), NotPresent);
    let (offset, word) = to.query(0, 1000).must("query")?;
    same!((offset, word & 0xff, word >> 32), (100 * PAGE_SIZE, PageState::Present as u64, 599));
    // Within one Space too, but not onto itself.
    to.map(1000 * PAGE_SIZE, to, 100 * PAGE_SIZE, 600, MapMode::Move, Access::empty(), false)
        .must("move within")?;
    refused!(
        to.map(1001 * PAGE_SIZE, to, 1000 * PAGE_SIZE, 600, MapMode::Move, Access::empty(), false),
        Overlap
    );
    from.destroy().must("destroy")?;
    to.destroy().must("destroy")
}

fn map_errors(world: &'static World) -> Outcome {
    let (from, to) = (hold()?, hold()?);
    from.zero(0, 4, WRITE, POPULATE).must("zero")?;
    to.zero(PAGE_SIZE, 1, READ, 0).must("zero")?;
    let map = |word: u64| {
        call(Operation::SpaceMap, [to.slot().into(), 0, from.slot().into(), 0, 1, word]).map(|_| ())
    };
    for word in [4, 0xff, 1 << 9, 1 << 15, 8 << 16, 2 << 16, 1 << 40, u64::MAX] {
        check!(map(word) == Err(Error::BadArgument), "mode word {word:#x}: {:?}", map(word));
    }
    refused!(to.map(PAGE_SIZE, from, 0, 1, MapMode::Share, READ, false), Overlap);
    // Across Domains a hole is an error, also in the middle.
    let sandbox = Sandbox::new().must("sandbox")?;
    let foreign = Space::create(sandbox.0, SpaceUse::Hold, None).must("foreign")?;
    refused!(foreign.map(0, from, 2 * PAGE_SIZE, 4, MapMode::Share, READ, false), Hole);
    check!(state(foreign, 1).is_some() && state(foreign, 2).is_none(), "the prefix is done");
    sandbox.0.set_limit(Resource::Frames, 0).must("limit")?;
    refused!(foreign.map(1 << 40, from, 0, 1, MapMode::Share, READ, false), OutOfFrames);
    // Devices are shared or not at all.
    if let Ok(window) = world.hardware.memory(0xfed0_0000, 1) {
        refused!(to.map(8 * PAGE_SIZE, window, 0, 1, MapMode::Private, READ, false), FrameInUse);
        window.destroy().must("destroy")?;
    }
    foreign.destroy().must("destroy")?;
    sandbox.close()?;
    from.destroy().must("destroy")?;
    to.destroy().must("destroy")
}

/// What one mapping has lost no other gets back.
fn maximum_travels(_: &'static World) -> Outcome {
    let (a, b, c) = (hold()?, hold()?, hold()?);
    a.zero(0, 1, READ, POPULATE).must("read-only from the beginning")?;
    refused!(a.protect(0, 1, WRITE), MissingRight);
    refused!(b.map(0, a, 0, 1, MapMode::Share, WRITE, false), MissingRight);
    b.map(0, a, 0, 1, MapMode::Share, READ, false).must("share")?;
    refused!(c.map(0, b, 0, 1, MapMode::Share, WRITE, false), MissingRight);
    c.map(0, b, 0, 1, MapMode::Move, Access::empty(), false).must("move")?;
    refused!(c.protect(0, 1, WRITE), MissingRight);
    refused!(c.resolve(0, 1, WRITE), MissingRight);
    refused!(c.copy_from(0, a, 0, 1), MissingRight);
    for space in [a, b, c] {
        space.destroy().must("destroy")?;
    }
    Ok(())
}

fn protect(_: &'static World) -> Outcome {
    let space = hold()?;
    space.zero(0, 3, WRITE, POPULATE).must("zero")?;
    space.zero(3 * PAGE_SIZE, 1, READ, POPULATE).must("zero")?;
    refused!(space.protect(0, 4, WRITE), MissingRight);
    space.protect(0, 3, Access::empty()).must("none")?;
    check!(
        is(space, 0, PageState::Present, Access::empty()),
        "the frame is kept: {:?}",
        state(space, 0)
    );
    space.protect(0, 3, WRITE).must("again")?;
    for bad in [0x10, 8, 2, 6, u64::MAX] {
        let result = call(Operation::SpaceProtect, [space.slot().into(), 0, 1, bad, 0, 0]);
        check!(result == Err(Error::BadArgument), "access {bad:#x}: {result:?}");
    }
    space.protect(100 * PAGE_SIZE, 1000, WRITE).must("holes stay holes")?;
    refused!(space.query(100 * PAGE_SIZE, 1000), NotPresent);
    space.destroy().must("destroy")
}

fn freeze(_: &'static World) -> Outcome {
    let home = Space::create(Domain::OWN, SpaceUse::Home, None).must("home")?;
    refused!(home.freeze(), BadArgument);
    refused!(startup::home_space().freeze(), MissingRight);
    home.destroy().must("destroy")?;
    let (space, other) = (hold()?, hold()?);
    space.zero(0, 700, WRITE, POPULATE).must("zero")?;
    space.zero(1 << 30, 1, WRITE, 0).must("zero")?;
    other.map(0, space, 0, 1, MapMode::Share, READ, false).must("share")?;
    refused!(space.freeze(), FrameInUse);
    other.unmap(0, 1).must("unmap")?;
    space.freeze().must("freeze")?;
    space.freeze().must("freeze again")?;
    refused!(space.zero(1 << 31, 1, READ, 0), Frozen);
    refused!(space.unmap(0, 1), Frozen);
    refused!(space.protect(0, 1, READ), Frozen);
    refused!(space.resolve(0, 1, WRITE), Frozen);
    refused!(space.copy_from(0, other, 0, 1), Frozen);
    refused!(space.map(1 << 31, other, 0, 1, MapMode::Share, READ, false), Frozen);
    refused!(other.map(0, space, 0, 1, MapMode::Share, WRITE, false), Frozen);
    refused!(other.map(0, space, 0, 1, MapMode::Snapshot, READ, false), Frozen);
    refused!(other.map(0, space, 0, 1, MapMode::Move, READ, false), Frozen);
    other.map(0, space, 0, 700, MapMode::Share, READ, false).must("borrow")?;
    check!(is(other, 0, PageState::Borrowed, READ), "{:?}", state(other, 0));
    refused!(other.protect(0, 1, WRITE), MissingRight);
    other.map(1 << 30, space, 0, 700, MapMode::Private, WRITE, false).must("private")?;
    other.resolve(1 << 30, 700, WRITE).must("break")?;
    check!(is(other, 1 << 18, PageState::Present, WRITE), "{:?}", state(other, 1 << 18));
    space.destroy().must("destroy")?;
    other.destroy().must("destroy")
}

fn copy_and_resolve(_: &'static World) -> Outcome {
    let (from, to) = (hold()?, hold()?);
    from.zero(0, 100, WRITE, POPULATE).must("zero")?;
    refused!(to.copy_from(0, from, 0, 1), Hole);
    to.zero(0, 100, WRITE, 0).must("zero")?;
    let view = View::map(from, 0, 1, WRITE).must("view")?;
    write(&view, 0xabcdef);
    drop(view);
    to.copy_from(0, from, 0, 100).must("copy")?;
    let view = View::map(to, 0, 1, READ).must("view")?;
    same!(read(&view), 0xabcdef);
    drop(view);
    refused!(to.copy_from(0, from, 100 * PAGE_SIZE, 1), Hole);
    refused!(to.resolve(100 * PAGE_SIZE, 1, READ), Hole);
    refused!(to.resolve(0, 1, READ | Access::EXECUTE), MissingRight);
    refused!(call(Operation::SpaceResolve, [to.slot().into(), 0, 1, 0x10, 0, 0]), BadArgument);
    from.destroy().must("destroy")?;
    to.destroy().must("destroy")
}

fn pin(world: &'static World) -> Outcome {
    let (space, other) = (hold()?, hold()?);
    space.zero(0, 2, WRITE, POPULATE).must("zero")?;
    let physical = space.pin(world.hardware, 0).must("pin")?;
    check!(physical % PAGE_SIZE == 0 && physical != 0, "address {physical:#x}");
    same!(space.pin(world.hardware, 0), Ok(physical));
    refused!(space.pin(world.hardware, 2 * PAGE_SIZE), Hole);
    refused!(space.pin(rt::Hardware(0), 0), NoCapability);
    refused!(space.freeze(), FrameInUse);
    refused!(other.map(0, space, 0, 1, MapMode::Move, Access::empty(), false), FrameInUse);
    // A snapshot copies it: the device goes on writing the original.
    other.map(0, space, 0, 1, MapMode::Snapshot, Access::empty(), false).must("snapshot")?;
    check!(is(space, 0, PageState::Present, WRITE), "{:?}", state(space, 0));
    other
        .map(PAGE_SIZE, space, PAGE_SIZE, 1, MapMode::Snapshot, Access::empty(), false)
        .must("snapshot")?;
    refused!(space.pin(world.hardware, PAGE_SIZE), FrameInUse);
    space.destroy().must("destroy")?;
    other.destroy().must("destroy")
}
