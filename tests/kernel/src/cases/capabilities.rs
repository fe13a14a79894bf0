//! Slots: copying, deleting, listing, destroying.

use crate::{
    check,
    check::{Must, Outcome},
    gadget::raw,
    refused,
    run::Case,
    same,
    world::World,
};
use alloc::vec::Vec;
use rt::{
    Domain, Error, Notification, Space,
    abi::{
        Kind, Operation, Rights,
        cap::SLOT_LIMIT,
        space::{Access, SpaceUse},
    },
    object, slots,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "cap.unknown_operation", run: unknown_operation },
    Case { name: "cap.copy", run: copy },
    Case { name: "cap.copy_errors", run: copy_errors },
    Case { name: "cap.delete_and_next", run: delete_and_next },
    Case { name: "cap.destroy", run: destroy },
];

fn unknown_operation(_: &'static World) -> Outcome {
    for number in [10, 15, 20, 31, 43, 67, 87, 1 << 16, 1 << 32, u64::MAX] {
        same!(
            Error::from_result(raw(number, [1; 6])[0].cast_signed()),
            Some(Error::UnknownOperation)
        );
    }
    Ok(())
}

fn copy(_: &'static World) -> Outcome {
    let notification = Notification::create(Domain::OWN).must("create")?;
    let slot = slots::take().must("slot")?;
    object::copy(notification.slot(), Domain::OWN, slot, Rights::SEND).must("copy")?;
    let copy = Notification(slot);
    copy.signal(5).must("signal through the copy")?;
    refused!(copy.wait(5, 0), MissingRight);
    same!(notification.wait(u64::MAX, 0), Ok(5));
    let found = Domain::OWN.next(slot).must("next")?;
    same!(
        (found.slot, found.kind, found.rights),
        (slot, Some(Kind::Notification), Rights::SEND.bits())
    );
    // A copy of the copy cannot get the right back.
    let second = slots::take().must("slot")?;
    object::copy(slot, Domain::OWN, second, Rights::ALL).must("copy of the copy")?;
    refused!(Notification(second).wait(5, 0), MissingRight);
    notification.destroy().must("destroy")?;
    refused!(copy.signal(1), NoCapability);
    copy.forget();
    Notification(second).forget();
    Ok(())
}

fn copy_errors(world: &'static World) -> Outcome {
    let notification = Notification::create(Domain::OWN).must("create")?;
    let free = slots::take().must("slot")?;
    refused!(
        object::copy(notification.slot(), Domain::OWN, notification.slot(), Rights::ALL),
        SlotOccupied
    );
    refused!(object::copy(notification.slot(), Domain::OWN, 0, Rights::ALL), BadArgument);
    refused!(object::copy(notification.slot(), Domain::OWN, SLOT_LIMIT, Rights::ALL), BadArgument);
    refused!(object::copy(free, Domain::OWN, free, Rights::ALL), NoCapability);
    refused!(object::copy(0, Domain::OWN, free, Rights::ALL), NoCapability);
    refused!(
        object::copy(notification.slot(), Domain(notification.slot()), free, Rights::ALL),
        WrongKind
    );
    let child = world.domain().must("domain")?;
    let uncopyable = slots::take().must("slot")?;
    object::copy(notification.slot(), Domain::OWN, uncopyable, Rights::SEND).must("copy")?;
    refused!(object::copy(uncopyable, child, 7, Rights::ALL), MissingRight);
    object::copy(notification.slot(), child, 7, Rights::ALL).must("grant")?;
    let weak = slots::take().must("slot")?;
    object::copy(child.slot(), Domain::OWN, weak, Rights::CREATE).must("weak Domain")?;
    refused!(object::copy(notification.slot(), Domain(weak), 8, Rights::ALL), MissingRight);
    child.destroy().must("destroy")?;
    // The slots of a dead Domain are stale, whatever they were named by.
    refused!(object::copy(notification.slot(), Domain(weak), 8, Rights::ALL), NoCapability);
    for slot in [uncopyable, weak] {
        object::delete(slot);
    }
    slots::give_back(free);
    notification.destroy().must("destroy")
}

fn delete_and_next(world: &'static World) -> Outcome {
    let child = world.domain().must("domain")?;
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None).must("space")?;
    for slot in [1, 511, 512, SLOT_LIMIT - 1] {
        object::copy(space.slot(), child, slot, Rights::ALL).must("grant")?;
    }
    let mut seen = Vec::new();
    let mut from = 0;
    while let Ok(found) = child.next(from) {
        same!(found.kind, Some(Kind::Space));
        seen.push(found.slot);
        from = found.slot + 1;
    }
    same!(seen, [1, 511, 512, SLOT_LIMIT - 1]);
    refused!(child.next(SLOT_LIMIT), NotPresent);
    let delete =
        |slot: u64| rt::arch::call(Operation::CapDelete, [child.slot().into(), slot, 0, 0, 0, 0]);
    for slot in seen {
        delete(slot.into()).must("delete")?;
        refused!(delete(slot.into()), NoCapability);
    }
    refused!(delete(SLOT_LIMIT.into()), NoCapability);
    refused!(delete(u64::MAX), NoCapability);
    refused!(child.next(0), NotPresent);
    check!(space.zero(0, 1, Access::READ, 0).is_ok(), "the object lives on");
    child.destroy().must("destroy")?;
    space.destroy().must("destroy")
}

fn destroy(world: &'static World) -> Outcome {
    refused!(Domain::OWN.destroy(), NoCapability);
    refused!(Domain(world.hardware.slot()).destroy(), WrongKind);
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None).must("space")?;
    let weak = slots::take().must("slot")?;
    object::copy(space.slot(), Domain::OWN, weak, !Rights::DESTROY).must("copy")?;
    refused!(Space(weak).destroy(), MissingRight);
    space.destroy().must("destroy")?;
    refused!(Space(weak).zero(0, 1, Access::READ, 0), NoCapability);
    object::delete(weak);
    Ok(())
}
