//! The compartments service: creates, limits, lists and destroys compartments.
//!
//! Owns: the Domains under which compartments live. Must not know: Linux, image formats, what a personality says to the daemon. It hands a new
//! compartment its layers, its port and its own Domain, home and thread, and nothing else.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod budget;
mod channel;
mod compartment;
mod native;
mod registry;
mod template;
mod tenant;

use channel::Channel;
use registry::Registry;
use rt::{Domain, Endpoint, Notification, message::Server, startup};

rt::service!(main);

/// Bit of the Notification that the daemon's port rings; the bits below tell of deaths.
pub(crate) const PORT_BIT: u64 = 1 << 63;

fn main() {
    if let Err(error) = serve() {
        rt::log!("compartments: {error:?}");
    }
}

pub(crate) fn named(name: &str) -> rt::Result<u32> {
    startup::capability(name).ok_or(rt::Error::NoCapability)
}

fn serve() -> rt::Result<()> {
    let notification = Notification::create(Domain::OWN)?;
    let server = Server::new(Endpoint(named("compartments")?), Some(notification))?;
    let mut registry = Registry::new(notification)?;
    let mut channel = Channel::open(notification);
    loop {
        let received = match server.receive(registry.patience()) {
            Ok(received) => received,
            Err(rt::Error::Kicked) => continue,
            Err(rt::Error::TimedOut) => {
                registry.look_at_templates();
                continue;
            }
            Err(error) => return Err(error),
        };
        if received.badge == u64::MAX {
            let [bits, ..] = received.words;
            let died = registry.bury(bits);
            if let Some(channel) = &mut channel {
                channel.tell(died);
                channel.serve(&mut registry);
            }
        } else {
            let answer = native::call(&mut registry, &received);
            received.drop_caps();
            let _ = server.reply(answer);
        }
    }
}
