//! Operations of programs that hold the Hardware capability.

use super::{Outcome, Request};
use crate::{
    counter,
    domain::{self, Domain, Owner},
    entry, frames,
    ipc::Notification,
    irq::{Irq, Source},
    space::Space,
};
use kernel_abi::{Error, Kind, PAGE_SIZE, Rights, operation::HardwareFact, space::SpaceUse};
use kernel_machine::{
    self as machine, PowerAction, Trigger,
    object::{Borrow, Object, Ref, Work},
};

/// Most pages of one device Space.
const MAX_DEVICE_PAGES: u64 = 1 << 16;
/// End of the addresses that the number of a frame reaches.
const DEVICE_END: u64 = 1 << 44;

/// The authority over the machine; there is one.
pub struct Hardware {
    owner: Owner,
}

impl Hardware {
    /// Creates it, for root.
    ///
    /// # Errors
    /// As [`domain::create`].
    pub fn create(domain: &Ref<Domain>) -> Result<Ref<Self>, Error> {
        domain::create(domain, |owner| Self { owner })
    }
}

impl Object for Hardware {
    const KIND: Kind = Kind::Hardware;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        this.owner.leave(*this);
        true
    }
}

pub(super) fn memory(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::SEND)?;
    let (address, pages) = (request.argument(2), request.argument(3));
    let fits = (1..=MAX_DEVICE_PAGES).contains(&pages) && address <= DEVICE_END - pages * PAGE_SIZE;
    if address % PAGE_SIZE != 0 || !fits {
        return Err(Error::BadArgument);
    }
    if !machine::device_range_allowed(address, pages) {
        return Err(Error::NotPresent);
    }
    let slot = request.prepare_slot(1)?;
    let domain = request.own_domain().to_ref().ok_or(Error::DomainDead)?;
    let space = Space::create(&domain, SpaceUse::Hold, None, true)?;
    space.fill_device(address, pages)?;
    request.install(slot, space.into_any())?;
    Ok(Some(0))
}

pub(super) fn irq_create(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::SEND)?;
    let notification = request.reference::<Notification>(4, Rights::SEND)?;
    let trigger = match request.argument(3) {
        0 => Trigger::Edge,
        1 => Trigger::LevelLow,
        2 => Trigger::LevelHigh,
        _ => return Err(Error::BadArgument),
    };
    let bit = u8::try_from(request.argument(5)).ok().filter(|bit| *bit < 64).ok_or(Error::BadArgument)?;
    let source = match request.argument(2) {
        u64::MAX => Source::Message,
        line => Source::Line(u32::try_from(line).map_err(|_| Error::NotPresent)?, trigger),
    };
    let slot = request.prepare_slot(1)?;
    let domain = request.own_domain().to_ref().ok_or(Error::DomainDead)?;
    let (irq, address, data) = Irq::create(&domain, source, notification, bit)?;
    request.install(slot, irq.into_any())?;
    request.more(data, 0);
    Ok(Some(address))
}

pub(super) fn irq_ack(request: Request<'_>) -> Outcome {
    request.object::<Irq>(0, Rights::SEND)?.acknowledge();
    Ok(Some(0))
}

/// The account of root's that a fact tells of.
fn account_of(fact: u64) -> Option<usize> {
    [HardwareFact::UsedFrames, HardwareFact::Objects, HardwareFact::UsedSlots, HardwareFact::UsedThreads]
        .iter()
        .position(|known| *known as u64 == fact)
}

pub(super) fn info(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::INSPECT)?;
    let boot = machine::boot_memory();
    let fact = request.argument(1);
    let command_line = HardwareFact::CommandLine as u64;
    if fact >= command_line {
        let start = usize::try_from(fact - command_line).map_err(|_| Error::NotPresent)?;
        let rest = boot.command_line.get(start..).filter(|rest| !rest.is_empty()).ok_or(Error::NotPresent)?;
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(rest) {
            *to = *from;
        }
        return Ok(Some(u64::from_le_bytes(bytes)));
    }
    let known = |wanted: HardwareFact| fact == wanted as u64;
    let value = if known(HardwareFact::Cpus) {
        Some(machine::cpu_count() as u64)
    } else if known(HardwareFact::TotalFrames) {
        Some(u64::from(frames::total()))
    } else if known(HardwareFact::FreeFrames) {
        Some(frames::free_count())
    } else if known(HardwareFact::PciWindow) {
        boot.pci_window
    } else if known(HardwareFact::VirtioMmio) {
        boot.virtio_mmio
    } else if known(HardwareFact::FirstInstruction) {
        Some(boot.first_instruction)
    } else if let Some(index) = account_of(fact) {
        Some(entry::root_domain().map_or(0, |root| root.account(index).0))
    } else if known(HardwareFact::Counters) {
        Some(counter::COUNT as u64)
    } else if known(HardwareFact::LongestEntry) {
        Some(entry::longest())
    } else if known(HardwareFact::TscIsClock) {
        Some(u64::from(boot.tsc_is_clock))
    } else if known(HardwareFact::Protections) {
        Some(machine::protections().bits())
    } else {
        None
    };
    value.map(Some).ok_or(Error::NotPresent)
}

pub(super) fn power(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::DESTROY)?;
    match request.argument(1) {
        0 => machine::power(PowerAction::Off((request.argument(2) & 0xff) as u8)),
        1 => machine::power(PowerAction::Reset),
        _ => Err(Error::BadArgument),
    }
}

pub(super) fn port(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::SEND)?;
    let port = u16::try_from(request.argument(1)).map_err(|_| Error::BadArgument)?;
    let word = request.argument(2);
    let width = match word & 0xff {
        width @ (1 | 2 | 4) => width as u8,
        _ => return Err(Error::BadArgument),
    };
    let write = (word & 1 << 8 != 0).then_some((request.argument(3) & u64::from(u32::MAX)) as u32);
    let value = machine::port_access(port, width, write).map_err(|_| Error::BadArgument)?;
    Ok(Some(u64::from(value)))
}

pub(super) fn counter(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::INSPECT)?;
    let index = usize::try_from(request.argument(1)).map_err(|_| Error::NotPresent)?;
    let (value, name) = counter::read(index).ok_or(Error::NotPresent)?;
    request.more(name[0], name[1]);
    Ok(Some(value))
}
