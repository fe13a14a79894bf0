//! Dying in every state a life can be in. None of these returns.

use crate::{Attempt, Breach, board::Board, guest::Guest};
use rt::{
    Domain, Endpoint, Notification, Space,
    abi::{
        cap::root,
        space::{Access, MapMode, SpaceUse},
    },
};

const WRITE: Access = Access::READ.union(Access::WRITE);

fn die() {
    // SAFETY: nothing is mapped at address 0, so the program ends here.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(0).write_volatile(1) };
}

/// By a fault that nobody handles, with nothing under way.
pub(crate) fn fault(_: &Board) -> Attempt {
    die();
    Err(Breach(line!(), 0))
}

/// While another thread is in a guest.
pub(crate) fn guest(_: &Board) -> Attempt {
    let spawned = rt::thread::spawn(true, || {
        // `jmp` to itself.
        if let Ok(guest) = Guest::new(&[0xeb, 0xfe]) {
            let _ = guest.enter();
        }
    });
    let _ = rt::thread::park_until(rt::clock::deadline_in(5_000_000));
    die();
    Err(Breach(line!(), u64::from(spawned.is_ok())))
}

/// While others wait for bits, calls, answers and time.
pub(crate) fn waiting(_: &Board) -> Attempt {
    let endpoint = Endpoint::create(Domain::OWN).map_err(|error| Breach(line!(), error as u64))?;
    let gate = endpoint.gate(Domain::OWN, 1, 8).map_err(|error| Breach(line!(), error as u64))?;
    let notification =
        Notification::create(Domain::OWN).map_err(|error| Breach(line!(), error as u64))?;
    let _ = rt::thread::spawn(false, move || {
        let _ = notification.wait(1, u64::MAX);
    });
    for _ in 0..2 {
        let _ = rt::thread::spawn(false, move || {
            let _ = gate.call(rt::message::Message::default(), 0);
        });
    }
    let _ = rt::thread::spawn(false, || {
        let _ = rt::thread::park_until(rt::clock::deadline_in(3_600_000_000_000));
    });
    let _ = rt::thread::park_until(rt::clock::deadline_in(5_000_000));
    die();
    Err(Breach(line!(), 0))
}

/// While others are in the middle of long operations.
pub(crate) fn operating(_: &Board) -> Attempt {
    for number in 0..4_u64 {
        let _ = rt::thread::spawn(false, move || {
            let Ok(space) = Space::create(Domain::OWN, SpaceUse::Hold, None) else { return };
            let Ok(other) = Space::create(Domain::OWN, SpaceUse::Hold, None) else { return };
            loop {
                let _ = space.zero(number << 30, 300, WRITE, 1 << 8);
                let _ = other.map(0, space, number << 30, 300, MapMode::Snapshot, WRITE, false);
                let _ = space.resolve(number << 30, 300, WRITE);
                let _ = other.unmap(0, 300);
                let _ = space.unmap(number << 30, 300);
            }
        });
    }
    let _ = rt::thread::park_until(rt::clock::deadline_in(20_000_000));
    die();
    Err(Breach(line!(), 0))
}

/// With children in which threads compute, and a grandchild: they die with it.
pub(crate) fn with_children(_: &Board) -> Attempt {
    let mut parent = Domain::OWN;
    for _ in 0..3 {
        parent = crate::storms::child_of(parent)?;
        crate::storms::spin_in(parent)?;
    }
    let _ = rt::thread::park_until(rt::clock::deadline_in(5_000_000));
    die();
    Err(Breach(line!(), 0))
}

/// As a program ends that has done its work.
pub(crate) fn end(_: &Board) -> Attempt {
    rt::exit()
}

/// By its own wish, which is its right.
pub(crate) fn destroy(_: &Board) -> Attempt {
    let _ = Domain(root::DOMAIN).destroy();
    loop {
        core::hint::spin_loop();
    }
}
