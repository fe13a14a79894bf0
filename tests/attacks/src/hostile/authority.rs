//! Forging, guessing, widening and outliving capabilities.

use crate::{
    Attempt, Dice,
    board::{Board, HOARD},
    denied, gadget, handed, hold, rounds,
};
use alloc::vec::Vec;
use rt::{
    Domain, Endpoint, Error, Gate, Notification, Reply, Space, Thread,
    abi::{
        Operation, Rights,
        cap::{Kind, SLOT_LIMIT, root},
        resource::{Resource, UNLIMITED},
        space::{Access, SpaceUse},
    },
    arch::call,
    object::{self, Limits},
    slots, startup,
};

/// Numbers of operations that end the caller, which is not what these attempts are after.
const ENDING: [u64; 2] = [Operation::ThreadExit as u64, Operation::ThreadPark as u64];

/// Every slot this compartment holds, as the kernel lists them.
fn held() -> Vec<u32> {
    let mut slots = Vec::new();
    let mut from = 1;
    while let Ok(found) = Domain::OWN.next(from) {
        slots.push(found.slot);
        from = found.slot + 1;
    }
    slots
}

/// The kernel's list is what was handed over, and no other number means anything.
pub(crate) fn forge(board: &Board) -> Attempt {
    let known = held();
    for slot in &known {
        let is_known = startup::capabilities().any(|(_, handed)| handed == slot);
        let found = Domain::OWN.next(*slot);
        // What this program has made for itself since are Spaces, threads and Notifications of its own.
        let is_own = found.is_ok_and(|found| {
            matches!(found.kind, Some(Kind::Space | Kind::Thread | Kind::Notification))
        });
        hold!(is_known || is_own, *slot);
    }
    for name in ["hardware", "module", "images", "compartments", "control", "ports"] {
        hold!(startup::capability(name).is_none(), 0);
    }
    let mut dice = Dice::new();
    for round in rounds(board, 60_000) {
        let slot = if round < 4096 { round } else { dice.garbage() };
        if u32::try_from(slot).is_ok_and(|slot| known.contains(&slot)) || slot == 0 {
            continue;
        }
        let target = slots::take().unwrap_or(0);
        let copied = call(Operation::CapCopy, [0, slot, target.into(), u64::MAX, 0, 0]);
        hold!(copied == Err(Error::NoCapability), slot);
        slots::give_back(target);
        if round % 16 == 0 {
            hold!(call(Operation::ObjectDestroy, [slot, 0, 0, 0, 0, 0]).is_err(), slot);
            hold!(call(Operation::Call, [slot, 0, 0, 0, 0, 0]).is_err(), slot);
            hold!(call(Operation::NotificationSignal, [slot, 1, 0, 0, 0, 0]).is_err(), slot);
        }
    }
    hold!(held() == known, known.len());
    denied!(Domain::OWN.next(SLOT_LIMIT), NotPresent);
    Ok(())
}

/// Holds capabilities in slots far apart, for the referee to count.
pub(crate) fn hoard(_: &Board) -> Attempt {
    let [first, count, step] = HOARD;
    for slot in (0..count).map(|index| first + index * step) {
        let own = u64::from(root::HOME);
        hold!(call(Operation::CapCopy, [0, own, slot, u64::MAX, 0, 0]).is_ok(), slot);
        // A table whose slots are empty again lies before the next one.
        hold!(call(Operation::CapCopy, [0, own, slot + 1, u64::MAX, 0, 0]).is_ok(), slot);
        hold!(call(Operation::CapDelete, [0, slot + 1, 0, 0, 0, 0]).is_ok(), slot);
    }
    Ok(())
}

/// Every operation with every kind of number; only operations on the thread itself are left out.
pub(crate) fn garbage(board: &Board) -> Attempt {
    let mut dice = Dice::new();
    for _ in rounds(board, 60_000) {
        let number = if dice.word().is_multiple_of(8) { dice.garbage() } else { dice.word() % 64 };
        let mut arguments = [0; 6].map(|_: u64| dice.garbage());
        // Not its own Domain, home and thread, without which it cannot go on.
        if (1..=3).contains(&arguments[0]) {
            arguments[0] = 4;
        }
        let waits = [
            Operation::Receive as u64,
            Operation::ReplyReceive as u64,
            Operation::NotificationWait as u64,
        ];
        let own = [
            Operation::GuestEnter as u64,
            Operation::FaultHandler as u64,
            Operation::CapDelete as u64,
        ];
        if ENDING.contains(&number) || waits.contains(&number) || own.contains(&number) {
            continue;
        }
        let more = [0; 4].map(|_: u64| dice.garbage());
        let _ = gadget::raw_message(number, arguments, more);
    }
    Ok(())
}

/// Rights and budgets only narrow, whoever asks and however often.
pub(crate) fn more(_: &Board) -> Attempt {
    let own = Domain(root::DOMAIN);
    for domain in [own, Domain::OWN] {
        denied!(domain.set_limit(Resource::Frames, UNLIMITED), MissingRight);
        denied!(domain.set_limit(Resource::Threads, UNLIMITED), MissingRight);
        denied!(domain.schedule(10_000, UNLIMITED, 1, 0, 0), MissingRight);
        denied!(domain.schedule(100, UNLIMITED, 1, 0, 1), MissingRight);
    }
    let wide = slots::take().unwrap_or(0);
    object::copy(root::DOMAIN, Domain::OWN, wide, Rights::ALL)
        .map_err(|_| crate::Breach(line!(), 0))?;
    denied!(Domain(wide).set_limit(Resource::Frames, UNLIMITED), MissingRight);
    denied!(Domain(wide).create(unlimited()), MissingRight);
    object::delete(wide);
    // A child has no more than its parent, and no better class.
    let limit = Domain::OWN.stat(Resource::Frames).map_or(0, |stat| stat.limit);
    let child = Domain::OWN.create(unlimited()).map_err(|_| crate::Breach(line!(), 0))?;
    denied!(child.schedule(100, UNLIMITED, 1, 0, 1), MissingRight);
    let space =
        Space::create(child, SpaceUse::Hold, None).map_err(|_| crate::Breach(line!(), 0))?;
    let write = Access::READ | Access::WRITE;
    denied!(space.zero(0, limit, write, 1 << 8), OutOfFrames);
    let used = Domain::OWN.stat(Resource::Frames).map_or(u64::MAX, |stat| stat.used);
    hold!(used <= limit, used);
    let _ = child.destroy();
    space.forget();
    // The port is to be used, not to be changed or to be taken over.
    let port = Space(handed("port.space"));
    for result in [
        port.unmap(0, 1),
        port.protect(0, 1, Access::READ),
        port.zero(1 << 40, 1, write, 0),
        port.freeze(),
        port.destroy(),
    ] {
        hold!(result == Err(Error::MissingRight), crate::code(&result));
    }
    denied!(Notification(handed("port.doorbell")).wait(1, 0), MissingRight);
    denied!(Notification(handed("port.doorbell")).destroy(), MissingRight);
    Ok(())
}

const fn unlimited() -> Limits {
    Limits { frames: UNLIMITED, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED }
}

/// Messages whose every word lies, to servers and through Gates of its own and of nobody.
pub(crate) fn messages(board: &Board) -> Attempt {
    let endpoint = Endpoint::create(Domain::OWN).map_err(|_| crate::Breach(line!(), 0))?;
    let gate = endpoint.gate(Domain::OWN, 7, 1).map_err(|_| crate::Breach(line!(), 0))?;
    let reply = Reply::create(Domain::OWN).map_err(|_| crate::Breach(line!(), 0))?;
    let (gate_slot, reply_slot) = (u64::from(gate.slot()), u64::from(reply.slot()));
    let endpoint_slot = u64::from(endpoint.slot());
    // Its other thread serves with windows that lie.
    let served = rt::thread::spawn(false, move || {
        let mut dice = Dice::new();
        loop {
            let receive = [endpoint_slot, dice.garbage(), 0, 0, 0, 0];
            let more = [
                dice.garbage(),
                dice.garbage(),
                dice.garbage(),
                (reply_slot << 32) | (dice.word() % 99),
            ];
            let _ = gadget::raw_message(Operation::Receive as u64, receive, more);
            let answer = [reply_slot, dice.garbage(), dice.garbage(), 0, 0, 0];
            let _ = gadget::raw_message(Operation::Reply as u64, answer, more);
            rt::thread::yield_now();
        }
    });
    hold!(served.is_ok(), 0);
    let mut dice = Dice::new();
    for _ in rounds(board, 3000) {
        // A tag that claims up to 255 capabilities, none of which exist, and a window in the middle of the table.
        let slot = if dice.word().is_multiple_of(4) { dice.garbage() } else { gate_slot };
        let number = if dice.word().is_multiple_of(2) { Operation::Call } else { Operation::Reply };
        let mut tag = dice.garbage();
        if slot == gate_slot && number as u64 == Operation::Call as u64 {
            // Refused at once, whatever the server does.
            tag |= 0xff << 32 | 0xff;
        }
        let more = [dice.garbage(), dice.garbage(), dice.garbage(), dice.garbage()];
        let _ = gadget::raw_message(number as u64, [slot, tag, dice.garbage(), 0, 0, 0], more);
    }
    Ok(())
}

/// What was destroyed is nothing, for every operation, also when its slot is used again.
pub(crate) fn freed(board: &Board) -> Attempt {
    for _ in rounds(board, 300) {
        let space = Space::create(Domain::OWN, SpaceUse::Hold, None)
            .map_err(|_| crate::Breach(line!(), 0))?;
        let spare = slots::take().unwrap_or(0);
        object::copy(space.slot(), Domain::OWN, spare, Rights::ALL)
            .map_err(|_| crate::Breach(line!(), 1))?;
        let _ = space.destroy();
        denied!(Space(spare).zero(0, 1, Access::READ, 0), NoCapability);
        denied!(Space(spare).query(0, 1), NoCapability);
        object::delete(spare);
        let child = Domain::OWN.create(unlimited()).map_err(|_| crate::Breach(line!(), 2))?;
        let made = Notification::create(child)
            .and_then(|made| Ok((made, Thread::create(child, startup::home_space(), 0)?)));
        let _ = child.destroy();
        let Ok((notification, thread)) = made else {
            // What earlier rounds have left is not given back yet.
            let _ = rt::thread::park_until(rt::clock::deadline_in(1_000_000));
            continue;
        };
        denied!(Notification::create(child), NoCapability);
        let _ = notification.signal(1);
        let _ = thread.kick();
        notification.forget();
        thread.forget();
    }
    Ok(())
}

/// One thread destroys while others use: Spaces, Gates, threads, Domains.
pub(crate) fn race(board: &Board) -> Attempt {
    for _ in rounds(board, 60) {
        let child = Domain::OWN.create(unlimited()).map_err(|_| crate::Breach(line!(), 0))?;
        let space =
            Space::create(child, SpaceUse::Hold, None).map_err(|_| crate::Breach(line!(), 1))?;
        let endpoint = Endpoint::create(child).map_err(|_| crate::Breach(line!(), 2))?;
        let gate = endpoint.gate(child, 1, 8).map_err(|_| crate::Breach(line!(), 3))?;
        let users: Vec<_> = (0..3)
            .map(|_| {
                rt::thread::spawn(false, move || {
                    let write = Access::READ | Access::WRITE;
                    for page in 0..40 {
                        let _ = space.zero(page << 12, 1, write, 1 << 8);
                        let _ = space.unmap(page << 12, 1);
                        let _ = Notification::create(child).map(Notification::forget);
                        // Nobody serves: the call ends when its Gate does.
                        if page == 20 {
                            let _ = Gate(gate.slot()).call(rt::message::Message::default(), 0);
                        }
                    }
                })
            })
            .collect();
        if users.iter().any(Result::is_err) {
            // Earlier rounds' threads still use what they find.
            let _ = rt::thread::park_until(rt::clock::deadline_in(2_000_000));
        }
        rt::thread::yield_now();
        let _ = gate.destroy();
        let _ = endpoint.destroy();
        let _ = space.destroy();
        let _ = child.destroy();
    }
    Ok(())
}
