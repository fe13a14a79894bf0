//! Reaching memory that is somebody else's, or that nobody may change.

use crate::{Attempt, Breach, board::Board, denied, handed, hold, rounds};
use rt::{
    Domain, Error, Space,
    abi::{
        PAGE_SIZE, Rights,
        layout::{HOME_BASE, PROGRAM_BASE, SPACE_SIZE},
        resource::Resource,
        space::{Access, MapMode, SpaceUse},
    },
    object, slots, startup,
    view::View,
};

const WRITE: Access = Access::READ.union(Access::WRITE);

fn hold_space() -> Result<Space, Breach> {
    Space::create(Domain::OWN, SpaceUse::Hold, None).map_err(|error| Breach(line!(), error as u64))
}

/// The port is shared as it was handed over: not executable, not beyond its end, not moved away, not copied on write.
pub(crate) fn not_shared(_: &Board) -> Attempt {
    let port = Space(handed("port.space"));
    let own = hold_space()?;
    denied!(
        own.map(0, port, 0, 1, MapMode::Share, Access::READ | Access::EXECUTE, false),
        MissingRight
    );
    denied!(own.map(0, port, 0, 1, MapMode::Move, Access::READ, false), MissingRight);
    denied!(own.map(0, port, 0, 1, MapMode::Snapshot, Access::READ, false), MissingRight);
    denied!(own.map(0, port, 1 << 40, 1, MapMode::Share, Access::READ, false), Hole);
    let pages = (0..4096).take_while(|page| port.query(page * PAGE_SIZE, 1).is_ok()).count() as u64;
    denied!(own.map(0, port, pages * PAGE_SIZE, 1, MapMode::Share, WRITE, false), Hole);
    own.map(0, port, 0, 1, MapMode::Share, Access::READ, false)
        .map_err(|error| Breach(line!(), error as u64))?;
    denied!(own.protect(0, 1, WRITE), MissingRight);
    denied!(own.protect(0, 1, Access::READ | Access::EXECUTE), MissingRight);
    // Rights that were left out do not come back by a copy.
    let narrow = slots::take().unwrap_or(0);
    hold!(object::copy(port.slot(), Domain::OWN, narrow, Rights::MAP_READ).is_ok(), 0);
    denied!(own.map(1 << 30, Space(narrow), 0, 1, MapMode::Share, WRITE, false), MissingRight);
    Ok(())
}

/// The program's own text is a page of the boot module that every compartment runs: frozen for ever.
pub(crate) fn image(_: &Board) -> Attempt {
    let home = startup::home_space();
    let text = PROGRAM_BASE - HOME_BASE;
    denied!(home.protect(text, 1, WRITE), MissingRight);
    denied!(home.resolve(text, 1, WRITE), MissingRight);
    let own = hold_space()?;
    denied!(own.map(0, home, text, 1, MapMode::Share, WRITE, false), MissingRight);
    own.map(0, home, text, 1, MapMode::Move, Access::READ, false)
        .map_or(Ok(()), |()| Err(Breach(line!(), 0)))
        .or_else(|breach| {
            // Moved within the compartment it is still borrowed, and still read-only.
            let result = own.protect(0, 1, WRITE);
            let back = home.map(text, own, 0, 1, MapMode::Move, Access::READ, false);
            if result == Err(Error::MissingRight) && back.is_ok() { Ok(()) } else { Err(breach) }
        })?;
    let source = hold_space()?;
    hold!(source.zero(0, 1, WRITE, 1 << 8).is_ok(), 0);
    denied!(home.copy_from(text, source, 0, 1), MissingRight);
    // A private copy is its own, and changes nothing for others: the victim runs the same text.
    hold!(own.map(1 << 21, home, text, 1, MapMode::Private, WRITE, false).is_ok(), 1);
    let view = View::map(own, 1 << 21, 1, WRITE).map_err(|error| Breach(line!(), error as u64))?;
    // SAFETY: the view is this program's own copy.
    unsafe { view.pointer().write_bytes(0xcc, PAGE_SIZE as usize) };
    Ok(())
}

/// Every frame that comes is empty, however many others had it before.
pub(crate) fn recycled(board: &Board) -> Attempt {
    for _ in rounds(board, 4) {
        let space = hold_space()?;
        let pages = 1500;
        hold!(space.zero(0, pages, WRITE, 1 << 8).is_ok(), 0);
        let view =
            View::map(space, 0, pages, WRITE).map_err(|error| Breach(line!(), error as u64))?;
        for index in 0..view.length() / 8 {
            // SAFETY: the index lies in the view.
            let word = unsafe { view.pointer().cast::<u64>().wrapping_add(index).read_volatile() };
            hold!(word == 0, word);
        }
        // SAFETY: as above: what this compartment writes, the next one must not find.
        unsafe { view.pointer().write_bytes(0xa5, view.length()) };
        drop(view);
        let _ = space.destroy();
    }
    Ok(())
}

/// Operations on everything there could be, again and again: none of them may hold a CPU up.
pub(crate) fn huge(board: &Board) -> Attempt {
    let (space, other) = (hold_space()?, hold_space()?);
    let all = SPACE_SIZE / PAGE_SIZE;
    for _ in rounds(board, 6) {
        hold!(space.zero(0, all, WRITE, 0).is_ok(), 0);
        for step in 0..40_u64 {
            let _ = space.resolve(step << 40, 1, WRITE);
        }
        let _ = space.protect(0, all, Access::READ);
        let _ = space.protect(0, all, WRITE);
        let _ = other.map(0, space, 0, all, MapMode::Private, WRITE, false);
        let _ = other.unmap(0, all);
        let _ = space.query(0, all);
        let _ = space.unmap(0, all);
        hold!(space.query(0, all) == Err(Error::NotPresent), 1);
    }
    // The widest table of slots makes no long search.
    let spare = startup::home_space().slot();
    for step in 0..64 {
        let slot = 600 + step * 16_000;
        let _ = object::copy(spare, Domain::OWN, slot, Rights::RUN);
        let _ = Domain::OWN.next(1000);
        object::delete_received(slot);
    }
    Ok(())
}

/// Two threads map two Spaces into each other at once, in both orders.
pub(crate) fn lock_order(board: &Board) -> Attempt {
    let (one, two) = (hold_space()?, hold_space()?);
    hold!(one.zero(0, 64, WRITE, 1 << 8).is_ok() && two.zero(0, 64, WRITE, 1 << 8).is_ok(), 0);
    for round in rounds(board, 40) {
        let ends =
            rt::Notification::create(Domain::OWN).map_err(|error| Breach(line!(), error as u64))?;
        for (bit, to, from) in [(1_u64, one, two), (2, two, one)] {
            let work = move || {
                let at = (1 << 20) + ((round * 2 + bit) << 24);
                for mode in [MapMode::Share, MapMode::Private] {
                    let _ = to.map(at, from, 0, 64, mode, WRITE, false);
                    let _ = to.unmap(at, 64);
                    let _ = to.copy_from(0, from, 0, 64);
                }
                let _ = ends.signal(bit);
            };
            hold!(rt::thread::spawn(false, work).is_ok(), 1);
        }
        let mut seen = 0;
        while seen != 3 {
            let end = rt::clock::deadline_in(60_000_000_000);
            seen |= ends.wait(3, end).map_err(|error| Breach(line!(), error as u64))?;
        }
        let _ = ends.destroy();
    }
    let used = Domain::OWN.stat(Resource::Frames).map_or(u64::MAX, |stat| stat.used);
    hold!(used < 4096, used);
    Ok(())
}
