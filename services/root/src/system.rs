//! Root's own channel: what the daemon may ask of the system as a whole.

use crate::service::{Authority, Running};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use contract::{
    channel::well_known,
    compartments::CapabilityRecord,
    system::{Description, Holder, Request, Response, Status},
    wire::{self, Decoder},
};
use rt::{
    Domain, Hardware, Notification,
    abi::{PAGE_SIZE, Rights, operation::HardwareFact},
    message::Message,
    port::{Port, Side},
};

/// Bit of root's Notification that its port signals.
const PORT_BIT: u64 = 1 << 62;
/// Bytes read at once.
const CHUNK: usize = 4096;

/// The channel.
pub(crate) struct Console {
    port: Port,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Console {
    /// Opens the channel, if there is a control service.
    pub(crate) fn open(
        authority: &Authority<'_>,
        description: &Description,
        notification: Notification,
    ) -> Option<Self> {
        description.services.iter().find(|service| service.name == "control")?;
        let gate = authority.endpoint("control", "ports")?.gate(Domain::OWN, 0, 1).ok()?;
        let window = rt::slots::take_window().ok()?;
        let message = Message::new(
            contract::control::call::OPEN_PORT,
            [well_known::SYSTEM.into(), PORT_BIT, 0, 0],
        );
        let answer = gate.call(message.with(notification.slot(), Rights::SEND), window).ok()?;
        let (space, doorbell) = (answer.cap(0)?, answer.cap(1)?);
        let [bits, ..] = answer.words;
        let port =
            Port::open(rt::Space(space), Side::Program, Notification(doorbell), bits).ok()?;
        Some(Self { port, decoder: Decoder::new(), out: Vec::new() })
    }

    /// Answers what has come.
    pub(crate) fn serve(
        &mut self,
        hardware: Hardware,
        description: &Description,
        running: &[Running],
    ) {
        let mut buffer = [0; CHUNK];
        loop {
            self.flush();
            if !self.out.is_empty() {
                return;
            }
            match self.port.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.decoder.feed(buffer.get(..count).unwrap_or_default()),
            }
            while let Ok(Some(request)) = self.decoder.next::<Request>() {
                let response = match request {
                    Request::Status => Response::Status(status(hardware, description, running)),
                    Request::Authority => Response::Authority(holders(description, running)),
                    Request::PowerOff => {
                        let _ = hardware.power(0, 0);
                        Response::Refused("the machine does not end".to_string())
                    }
                };
                // A response that is too long is the description's fault; the daemon then waits in vain and says so.
                let _ = wire::encode(&response, &mut self.out);
            }
        }
    }

    fn flush(&mut self) {
        if let Ok(count) = self.port.write(&self.out) {
            self.out.drain(..count);
        }
    }
}

fn status(hardware: Hardware, description: &Description, running: &[Running]) -> Status {
    let fact = |fact| hardware.fact(fact).unwrap_or(0);
    Status {
        version: env!("CARGO_PKG_VERSION").to_string(),
        cpus: fact(HardwareFact::Cpus) as u32,
        memory: (
            fact(HardwareFact::TotalFrames) * PAGE_SIZE,
            fact(HardwareFact::FreeFrames) * PAGE_SIZE,
        ),
        uptime_nanoseconds: rt::clock::since_boot(),
        objects: fact(HardwareFact::Objects),
        services: description
            .services
            .iter()
            .zip(running)
            .map(|(service, running)| (service.name.clone(), running.restarts))
            .collect(),
    }
}

/// Every Domain that root knows, and what its table holds according to the kernel.
fn holders(description: &Description, running: &[Running]) -> Vec<Holder> {
    let mut holders = Vec::new();
    holders.push(Holder { name: "root".to_string(), capabilities: listing(Domain::OWN, &[]) });
    for (service, running) in description.services.iter().zip(running) {
        holders.push(Holder {
            name: service.name.clone(),
            capabilities: listing(running.domain, &running.names),
        });
    }
    holders
}

fn listing(domain: Domain, names: &[String]) -> Vec<CapabilityRecord> {
    let mut records = Vec::new();
    let mut from = 1;
    while let Ok(found) = domain.next(from) {
        let name = match domain {
            Domain::OWN => own_name(found.slot).to_string(),
            _ => handed_name(found.slot, names).to_string(),
        };
        let kind = found.kind.map_or(0, |kind| kind as u8);
        records.push(CapabilityRecord {
            slot: found.slot,
            kind,
            rights: found.rights,
            object: found.object,
            name,
        });
        from = found.slot.saturating_add(1);
    }
    records
}

fn own_name(slot: u32) -> &'static str {
    use rt::abi::cap::root;
    match slot {
        root::DOMAIN => "domain",
        root::HOME => "home",
        root::THREAD => "thread",
        root::HARDWARE => "hardware",
        root::MODULE => "module",
        _ => "",
    }
}

/// Every program's Domain, home and thread come first, then what it was granted, in order.
fn handed_name(slot: u32, names: &[String]) -> &str {
    match slot {
        1..=3 => own_name(slot),
        _ => names.get(slot.saturating_sub(4) as usize).map_or("", String::as_str),
    }
}
