//! The image store: layer blobs as frozen Spaces, named by the SHA-256 of their bytes.
//!
//! Owns: the blobs. Must not know: what is in them, who runs what. A blob is published only when it is whole, has the right digest and is frozen; a
//! transfer that is cut leaves nothing behind. A removed blob is gone for its holders too, but for the pages they have mapped: the daemon removes only what no container uses.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod composed;
mod store;
mod transfer;

use contract::{channel::well_known, images::call};
use rt::{
    Domain, Endpoint, Gate, Notification,
    abi::Rights,
    message::{Message, Received, Server},
    port::{Port, Side},
    startup,
};
use store::Store;
use transfer::Channel;

rt::service!(main);

/// Bit of the Notification that the port rings.
const PORT_BIT: u64 = 1;

fn main() {
    if let Err(error) = serve() {
        rt::log!("images: {error:?}");
    }
}

fn named(name: &str) -> rt::Result<u32> {
    startup::capability(name).ok_or(rt::Error::NoCapability)
}

fn serve() -> rt::Result<()> {
    let notification = Notification::create(Domain::OWN)?;
    let server = Server::new(Endpoint(named("images")?), Some(notification))?;
    let mut store = Store::new();
    if let Some(module) = startup::capability("module") {
        composed::publish(rt::Space(module), &mut store)?;
    }
    let mut channel = open_port(notification).map(Channel::new);
    loop {
        let received = match server.receive(rt::object::FOREVER) {
            Ok(received) => received,
            Err(rt::Error::Kicked) => continue,
            Err(error) => return Err(error),
        };
        if received.badge == u64::MAX {
            if let Some(channel) = &mut channel {
                channel.serve(&mut store);
            }
        } else {
            let answer = open(&store, &received);
            received.drop_caps();
            let _ = server.reply(answer);
        }
    }
}

/// The daemon's channel, if the system has a control service.
fn open_port(notification: Notification) -> Option<Port> {
    let gate = Gate(startup::capability("control")?);
    let window = rt::slots::take_window().ok()?;
    let message = Message::new(
        contract::control::call::OPEN_PORT,
        [well_known::IMAGES.into(), PORT_BIT, 0, 0],
    );
    let answer = gate.call(message.with(notification.slot(), Rights::SEND), window).ok()?;
    let [bits, ..] = answer.words;
    Port::open(rt::Space(answer.cap(0)?), Side::Program, Notification(answer.cap(1)?), bits).ok()
}

fn open(store: &Store, received: &Received) -> Message {
    let mut digest = [0; 32];
    for (place, word) in digest.chunks_exact_mut(8).zip(received.words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    match store.find(&digest) {
        Some(blob) if received.label == call::OPEN => {
            let rights = Rights::MAP_READ | Rights::MAP_EXECUTE | Rights::COPY;
            Message::new(0, [blob.length, 0, 0, 0]).with(blob.space.slot(), rights)
        }
        _ => Message::new(call::UNKNOWN, [0; 4]),
    }
}
