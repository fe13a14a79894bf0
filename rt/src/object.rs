//! Kernel objects as typed slots. The types are plain names of slots: copying one copies no authority, and a stale one gives `NoCapability`.

use crate::{
    Result,
    arch::{Returned, call},
    slots,
};
use kernel_abi::{
    Error, Kind, Operation, Rights, Slot,
    resource::Resource,
    space::{Access, MAP_SHARED_BIT, MapMode, PageState, SpaceUse},
};

/// A deadline that never comes.
pub const FOREVER: u64 = u64::MAX;

macro_rules! objects {
    ($( $(#[$doc:meta])* $name:ident )*) => { $(
        $(#[$doc])*
        /// The default is slot 0, which holds nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub Slot);

        impl $name {
            /// The slot.
            #[must_use]
            pub const fn slot(self) -> Slot {
                self.0
            }
            /// Destroys the object for all its holders and frees the slot.
            ///
            /// # Errors
            /// `NoCapability`, `MissingRight`.
            pub fn destroy(self) -> Result<()> {
                call(Operation::ObjectDestroy, [self.0.into(), 0, 0, 0, 0, 0])?;
                self.forget();
                Ok(())
            }
            /// Empties the slot; the object lives on if others refer to it.
            pub fn forget(self) {
                delete(self.0);
            }
        }
    )* };
}

objects! {
    /// A Domain. Slot 0 is the program's own.
    Domain
    /// A Space.
    Space
    /// A thread.
    Thread
    /// An Endpoint.
    Endpoint
    /// A Gate.
    Gate
    /// A Reply.
    Reply
    /// A Notification.
    Notification
    /// An interrupt.
    Irq
    /// The machine.
    Hardware
}

/// Empties a slot and gives it back.
pub fn delete(slot: Slot) {
    // A slot that is empty already is as good.
    let _ = call(Operation::CapDelete, [0, slot.into(), 0, 0, 0, 0]);
    slots::give_back(slot);
}

/// Empties a slot of a receive window, which stays the window's.
pub fn delete_received(slot: Slot) {
    let _ = call(Operation::CapDelete, [0, slot.into(), 0, 0, 0, 0]);
}

/// Lets an operation create something in a free slot.
pub(crate) fn create(
    operation: Operation,
    domain: Domain,
    more: [u64; 4],
) -> Result<(Slot, Returned)> {
    let slot = slots::take()?;
    let [a, b, c, d] = more;
    match call(operation, [domain.0.into(), slot.into(), a, b, c, d]) {
        Ok(returned) => Ok((slot, returned)),
        Err(error) => {
            slots::give_back(slot);
            Err(error)
        }
    }
}

/// Copies a capability of this program into a Domain's table (the program's own: `Domain::OWN`).
///
/// # Errors
/// As the operation `CapCopy`.
pub fn copy(source: Slot, to: Domain, slot: Slot, rights: Rights) -> Result<()> {
    call(Operation::CapCopy, [to.0.into(), source.into(), slot.into(), rights.bits().into(), 0, 0])
        .map(|_| ())
}

/// Repeats an operation on a range, slice by slice.
fn sliced(pages: u64, mut slice: impl FnMut(u64, u64) -> Result<Returned>) -> Result<()> {
    let mut done = 0;
    while done < pages {
        match slice(done, pages - done) {
            Ok((count, ..)) => done += count,
            Err(Error::WouldBlock) => crate::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A page offset in bytes.
const fn bytes(pages: u64) -> u64 {
    pages << kernel_abi::PAGE_SHIFT
}

/// Use, limit and peak of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// In use.
    pub used: u64,
    /// Limit.
    pub limit: u64,
    /// Highest use ever.
    pub peak: u64,
}

/// A capability that a listing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Slot.
    pub slot: Slot,
    /// Kind.
    pub kind: Option<Kind>,
    /// Rights bits.
    pub rights: u16,
    /// Identity of the object.
    pub object: u32,
}

/// Limits of a new Domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames.
    pub frames: u64,
    /// Objects.
    pub objects: u64,
    /// Slots.
    pub slots: u64,
    /// Threads.
    pub threads: u64,
}

impl Domain {
    /// The program's own Domain.
    pub const OWN: Self = Self(0);

    /// Creates a child.
    ///
    /// # Errors
    /// As `DomainCreate`.
    pub fn create(self, limits: Limits) -> Result<Self> {
        let more = [limits.frames, limits.objects, limits.slots, limits.threads];
        create(Operation::DomainCreate, self, more).map(|(slot, _)| Self(slot))
    }
    /// Changes one limit.
    ///
    /// # Errors
    /// As `DomainBudget`.
    pub fn set_limit(self, resource: Resource, limit: u64) -> Result<()> {
        call(Operation::DomainBudget, [self.0.into(), resource as u64, limit, 0, 0, 0]).map(|_| ())
    }
    /// Changes the scheduling; see `DomainSchedule` for the units.
    ///
    /// # Errors
    /// As `DomainSchedule`.
    pub fn schedule(
        self,
        weight: u64,
        quota: u64,
        period: u64,
        cpus: u64,
        class: u64,
    ) -> Result<()> {
        call(Operation::DomainSchedule, [self.0.into(), weight, quota, period, cpus, class])
            .map(|_| ())
    }
    /// Reads one account.
    ///
    /// # Errors
    /// As `DomainStat`.
    pub fn stat(self, resource: Resource) -> Result<Use> {
        let (used, limit, peak) =
            call(Operation::DomainStat, [self.0.into(), resource as u64, 0, 0, 0, 0])?;
        Ok(Use { used, limit, peak })
    }
    /// Asks for `bit` to be signalled at the Domain's death and `bit + 1` when all is given back.
    ///
    /// # Errors
    /// As `DomainWatch`.
    pub fn watch(self, notification: Notification, bit: u64) -> Result<()> {
        call(Operation::DomainWatch, [self.0.into(), notification.0.into(), bit, 0, 0, 0])
            .map(|_| ())
    }
    /// The next occupied slot at or after a number.
    ///
    /// # Errors
    /// `NotPresent` when there is none.
    pub fn next(self, from: Slot) -> Result<Found> {
        let mut from = u64::from(from);
        let (slot, word) = loop {
            let (slot, word, _) = call(Operation::CapNext, [self.0.into(), from, 0, 0, 0, 0])?;
            if word != 0 {
                break (slot, word);
            }
            // The slice found only empty slots.
            from = slot;
        };
        Ok(Found {
            slot: slot as Slot,
            kind: Kind::from_number(word as u8),
            rights: (word >> 16) as u16,
            object: (word >> 32) as u32,
        })
    }
}

impl Space {
    /// Creates a Space that a Domain pays for; a guest Space names its home Space.
    ///
    /// # Errors
    /// As `SpaceCreate`.
    pub fn create(domain: Domain, used_for: SpaceUse, home: Option<Self>) -> Result<Self> {
        let more = [used_for as u64, home.map_or(0, |home| home.0.into()), 0, 0];
        create(Operation::SpaceCreate, domain, more).map(|(slot, _)| Self(slot))
    }
    /// Leaves demand-zero markers in holes. `flags` may have the bits of `SpaceZero`'s access word.
    ///
    /// # Errors
    /// As `SpaceZero`; a prefix may have been done.
    pub fn zero(self, offset: u64, pages: u64, access: Access, flags: u64) -> Result<()> {
        let word = u64::from(access.bits()) | flags;
        sliced(pages, |done, rest| {
            call(Operation::SpaceZero, [self.0.into(), offset + bytes(done), rest, word, 0, 0])
        })
    }
    /// Maps a range of another Space here.
    ///
    /// # Errors
    /// As `SpaceMap`; a prefix may have been done.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operation has that many, each of its own kind"
    )]
    pub fn map(
        self,
        offset: u64,
        from: Self,
        from_offset: u64,
        pages: u64,
        mode: MapMode,
        access: Access,
        shared: bool,
    ) -> Result<()> {
        let word =
            mode as u64 | u64::from(access.bits()) << 16 | if shared { MAP_SHARED_BIT } else { 0 };
        sliced(pages, |done, rest| {
            let skip = bytes(done);
            call(
                Operation::SpaceMap,
                [self.0.into(), offset + skip, from.0.into(), from_offset + skip, rest, word],
            )
        })
    }
    /// Changes access.
    ///
    /// # Errors
    /// As `SpaceProtect`; a prefix may have been done.
    pub fn protect(self, offset: u64, pages: u64, access: Access) -> Result<()> {
        let word = u64::from(access.bits());
        sliced(pages, |done, rest| {
            call(Operation::SpaceProtect, [self.0.into(), offset + bytes(done), rest, word, 0, 0])
        })
    }
    /// Makes holes.
    ///
    /// # Errors
    /// As `SpaceUnmap`; a prefix may have been done.
    pub fn unmap(self, offset: u64, pages: u64) -> Result<()> {
        sliced(pages, |done, rest| {
            call(Operation::SpaceUnmap, [self.0.into(), offset + bytes(done), rest, 0, 0, 0])
        })
    }
    /// Makes the Space immutable.
    ///
    /// # Errors
    /// As `SpaceFreeze`.
    pub fn freeze(self) -> Result<()> {
        while call(Operation::SpaceFreeze, [self.0.into(), 0, 0, 0, 0, 0])?.0 == 0 {}
        Ok(())
    }
    /// Describes the first page that is not a hole: its offset and `SpaceQuery`'s word.
    ///
    /// # Errors
    /// `NotPresent` if there are only holes.
    pub fn query(self, offset: u64, pages: u64) -> Result<(u64, u64)> {
        let (mut from, mut rest) = (offset, pages);
        loop {
            let (found, word, _) =
                call(Operation::SpaceQuery, [self.0.into(), from, rest, 0, 0, 0])?;
            if word & 0xff != PageState::Hole as u64 {
                return Ok((found, word));
            }
            // The slice ended before anything was found.
            rest = rest.saturating_sub(found.saturating_sub(from) >> kernel_abi::PAGE_SHIFT);
            from = found;
        }
    }
    /// Pins a page for a device; its physical address.
    ///
    /// # Errors
    /// As `SpacePin`.
    pub fn pin(self, hardware: Hardware, offset: u64) -> Result<u64> {
        call(Operation::SpacePin, [hardware.0.into(), self.0.into(), offset, 0, 0, 0])
            .map(|(physical, ..)| physical)
    }
    /// Copies whole pages from another Space.
    ///
    /// # Errors
    /// As `SpaceCopy`; a prefix may have been done.
    pub fn copy_from(self, offset: u64, from: Self, from_offset: u64, pages: u64) -> Result<()> {
        sliced(pages, |done, rest| {
            let skip = bytes(done);
            call(
                Operation::SpaceCopy,
                [self.0.into(), offset + skip, from.0.into(), from_offset + skip, rest, 0],
            )
        })
    }
    /// Does what a touch would.
    ///
    /// # Errors
    /// As `SpaceResolve`; a prefix may have been done.
    pub fn resolve(self, offset: u64, pages: u64, access: Access) -> Result<()> {
        let word = u64::from(access.bits());
        sliced(pages, |done, rest| {
            call(Operation::SpaceResolve, [self.0.into(), offset + bytes(done), rest, word, 0, 0])
        })
    }
    /// Gives the frames of a range back: its pages are demand-zero again, with the access they have.
    ///
    /// # Errors
    /// As `SpaceDiscard`; a prefix may have been done.
    pub fn discard(self, offset: u64, pages: u64) -> Result<()> {
        sliced(pages, |done, rest| {
            call(Operation::SpaceDiscard, [self.0.into(), offset + bytes(done), rest, 0, 0, 0])
        })
    }
}

impl Thread {
    /// Creates a stopped thread in a home Space; `state_page` is a home offset or 0.
    ///
    /// # Errors
    /// As `ThreadCreate`.
    pub fn create(domain: Domain, home: Space, state_page: u64) -> Result<Self> {
        create(Operation::ThreadCreate, domain, [home.0.into(), state_page, 0, 0])
            .map(|(slot, _)| Self(slot))
    }
    /// Starts it.
    ///
    /// # Errors
    /// As `ThreadStart`.
    pub fn start(self, entry: u64, stack: u64, argument: u64) -> Result<()> {
        call(Operation::ThreadStart, [self.0.into(), entry, stack, argument, 0, 0]).map(|_| ())
    }
    /// Makes its guest, park or wait return.
    ///
    /// # Errors
    /// `NoCapability` when it is gone.
    pub fn kick(self) -> Result<()> {
        call(Operation::ThreadKick, [self.0.into(), 0, 0, 0, 0, 0]).map(|_| ())
    }
    /// Ends its park, or lets the next one return at once.
    ///
    /// # Errors
    /// `NoCapability` when it is gone.
    pub fn unpark(self) -> Result<()> {
        call(Operation::ThreadUnpark, [self.0.into(), 0, 0, 0, 0, 0]).map(|_| ())
    }
    /// Restricts it to CPUs, with a weight in its Domain.
    ///
    /// # Errors
    /// As `ThreadAffinity`.
    pub fn set_affinity(self, cpus: u64, weight: u64) -> Result<()> {
        call(Operation::ThreadAffinity, [self.0.into(), cpus, weight, 0, 0, 0]).map(|_| ())
    }
    /// Ticks used, state (0 stopped, 1 runnable, 2 blocked, 3 dead), ticks in the guest.
    ///
    /// # Errors
    /// `NoCapability` when it is gone.
    pub fn stat(self) -> Result<Returned> {
        call(Operation::ThreadStat, [self.0.into(), 0, 0, 0, 0, 0])
    }
}

impl Endpoint {
    /// Creates one.
    ///
    /// # Errors
    /// As `EndpointCreate`.
    pub fn create(domain: Domain) -> Result<Self> {
        create(Operation::EndpointCreate, domain, [0; 4]).map(|(slot, _)| Self(slot))
    }
    /// Makes a Gate.
    ///
    /// # Errors
    /// As `GateCreate`.
    pub fn gate(self, domain: Domain, badge: u64, limit: u16) -> Result<Gate> {
        create(Operation::GateCreate, domain, [self.0.into(), badge, limit.into(), 0])
            .map(|(slot, _)| Gate(slot))
    }
}

impl Reply {
    /// Creates one.
    ///
    /// # Errors
    /// As `ReplyCreate`.
    pub fn create(domain: Domain) -> Result<Self> {
        create(Operation::ReplyCreate, domain, [0; 4]).map(|(slot, _)| Self(slot))
    }
}

impl Notification {
    /// Creates one with all bits clear.
    ///
    /// # Errors
    /// As `NotificationCreate`.
    pub fn create(domain: Domain) -> Result<Self> {
        create(Operation::NotificationCreate, domain, [0; 4]).map(|(slot, _)| Self(slot))
    }
    /// Sets bits.
    ///
    /// # Errors
    /// `NoCapability` when it is gone.
    pub fn signal(self, bits: u64) -> Result<()> {
        call(Operation::NotificationSignal, [self.0.into(), bits, 0, 0, 0, 0]).map(|_| ())
    }
    /// Waits for bits of a mask.
    ///
    /// # Errors
    /// As `NotificationWait`.
    pub fn wait(self, mask: u64, deadline: u64) -> Result<u64> {
        call(Operation::NotificationWait, [self.0.into(), mask, deadline, 0, 0, 0])
            .map(|(_, bits, _)| bits)
    }
}
