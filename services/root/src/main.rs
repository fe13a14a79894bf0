//! Root: the first program. It starts the services of the system description, gives each what the description says, and watches over them.
//!
//! Owns: every authority there is, at boot; afterwards only the services' Domains and Endpoints. Must not know: what any service does.
//! A service that dies is started again with the same Endpoints, so that the Gates of its clients stay valid, or takes the machine with it, as described.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod describe;
mod service;
mod system;

use alloc::vec::Vec;
use contract::system::{Description, OnDeath};
use rt::{Hardware, Notification, Space, abi::cap::root, module::Module};
use service::{Authority, Running};

rt::service!(main);

/// Exit status of a machine whose services cannot be started.
const BROKEN: u8 = 0x7e;

fn main() {
    let begun = rt::clock::now();
    let hardware = Hardware(root::HARDWARE);
    let module = match Module::read(Space(root::MODULE)) {
        Ok(module) => module,
        Err(error) => return give_up(hardware, "the boot module cannot be read", error),
    };
    let Ok(description) = contract::system::decode(module.description()) else {
        return give_up(hardware, "the system description is malformed", rt::Error::BadArgument);
    };
    if let Err(error) = run(hardware, &module, &description, begun) {
        give_up(hardware, "the services cannot be started", error);
    }
}

fn give_up(hardware: Hardware, what: &str, error: rt::Error) {
    rt::log!("root: {what}: {error:?}");
    let _ = hardware.power(0, BROKEN);
}

fn run(
    hardware: Hardware,
    module: &Module,
    description: &Description,
    begun: u64,
) -> rt::Result<()> {
    let notification = Notification::create(rt::Domain::OWN)?;
    let mut authority = Authority::new(hardware, module, description, begun)?;
    let mut running = Vec::new();
    for (index, service) in description.services.iter().enumerate() {
        running.push(authority.start(index, service, notification)?);
    }
    rt::log!(
        "root: {} runs {} services on {} CPUs",
        description.name,
        running.len(),
        hardware.fact(rt::abi::operation::HardwareFact::Cpus).unwrap_or(0)
    );
    let mut console = system::Console::open(&authority, description, notification);
    loop {
        let bits = notification.wait(u64::MAX, rt::object::FOREVER)?;
        for (index, service) in description.services.iter().enumerate() {
            if bits & service::death_bit(index) != 0 {
                bury(hardware, &mut authority, &mut running, index, service, notification)?;
            }
        }
        if let Some(console) = &mut console {
            console.serve(hardware, description, &running);
        }
    }
}

/// What happens when a service has died.
fn bury(
    hardware: Hardware,
    authority: &mut Authority<'_>,
    running: &mut [Running],
    index: usize,
    service: &contract::system::Service,
    notification: Notification,
) -> rt::Result<()> {
    let Some(place) = running.get_mut(index) else { return Ok(()) };
    match service.on_death {
        OnDeath::Finish => hardware.power(0, 0),
        OnDeath::EndMachine => {
            rt::log!("root: service {} died; the machine ends", service.name);
            hardware.power(0, BROKEN)
        }
        OnDeath::Restart if place.restarts < service::MAX_RESTARTS => {
            rt::log!("root: service {} died; it is started again", service.name);
            let restarts = place.restarts + 1;
            *place = Running { restarts, ..authority.start(index, service, notification)? };
            Ok(())
        }
        OnDeath::Restart => {
            rt::log!(
                "root: service {} died {} times; it is not started again",
                service.name,
                place.restarts + 1
            );
            Ok(())
        }
    }
}
