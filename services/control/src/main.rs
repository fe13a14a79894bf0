//! The control service: the switch between the control channel (one virtio serial port) and the ports of services and compartments.
//!
//! Owns: the console device, the frames on it, the rings of every port. Must not know: what the bytes mean. One thread, one loop: interrupts, doorbells
//! and calls come in, bytes move, nothing blocks. A port whose program is slow holds up its own channel only, because the daemon may send no more than the
//! ring has room for.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod ports;
mod switch;
mod virtio;

use ports::Ports;
use rt::{Endpoint, Hardware, Notification, message::Server, startup};
use virtio::console::{Console, Host};

rt::service!(main);

/// Bit of the Notification that the console's interrupt signals.
pub(crate) const INTERRUPT_BIT: u64 = 0;

fn main() {
    if let Err(error) = serve() {
        rt::log!("control: {error:?}");
    }
}

fn serve() -> rt::Result<()> {
    let endpoint = Endpoint(startup::capability("ports").ok_or(rt::Error::NoCapability)?);
    let hardware = Hardware(startup::capability("hardware").ok_or(rt::Error::NoCapability)?);
    let notification = Notification::create(rt::Domain::OWN)?;
    let mut console = match Console::find(hardware, notification, INTERRUPT_BIT) {
        Ok(console) => Some(console),
        Err(error) => {
            rt::log!("control: no console: {error}; the machine cannot be controlled");
            None
        }
    };
    let server = Server::new(endpoint, Some(notification))?;
    let mut ports = Ports::new(notification);
    if let Some(console) = &mut console {
        ports.pump(console);
    }
    loop {
        let received = match server.receive(rt::object::FOREVER) {
            Ok(received) => received,
            Err(rt::Error::Kicked) => continue,
            Err(error) => return Err(error),
        };
        if received.badge == u64::MAX {
            let [bits, ..] = received.words;
            ports.note(bits);
        } else {
            let answer = ports.call(&received);
            received.drop_caps();
            // The caller may have died meanwhile.
            let _ = server.reply(answer);
        }
        if let Some(console) = &mut console {
            ports.pump(console);
            if console.host() == Host::Gone {
                rt::log!("control: whoever started the machine is gone; it ends");
                return Ok(());
            }
        }
    }
}
