//! The assistant: a Domain of its own that misbehaves on request.
//!
//! Owns: the misdeeds. Must not know: what the suite expects of them.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../act.rs"]
mod act;
mod faults;

use act::Act;
use rt::{Domain, Endpoint, Notification, abi::cap::root, message::Server, startup};

rt::entry!(main);

fn main() {
    let Some(act) = startup::value(act::ACT).and_then(Act::from_number) else { return };
    let Some(signal) = startup::capability(act::SIGNAL).map(Notification) else { return };
    let _ = signal.signal(act::BEGUN);
    let bits = if perform(act, signal) { act::DONE } else { act::WRONG };
    let _ = signal.signal(bits);
}

/// Performs an act; whether it could.
fn perform(act: Act, signal: Notification) -> bool {
    match act {
        Act::Greet => true,
        Act::Spin => loop {
            core::hint::spin_loop();
        },
        Act::Park => loop {
            rt::thread::park();
        },
        Act::ReadNull => faults::read(0),
        Act::WriteText => faults::write(rt::abi::layout::PROGRAM_BASE),
        Act::JumpAway => faults::jump(),
        Act::Halt => faults::halt(),
        Act::DoubleFault => faults::with_handler(faults::faulting_handler(), true),
        Act::EndlessFault => faults::with_handler(faults::faulting_handler(), false),
        Act::StackOverflow => faults::recurse(0) != 0,
        Act::NonCanonicalStack => faults::lose_stack(),
        Act::DestroySelf => Domain(root::DOMAIN).destroy().is_ok(),
        Act::ServeNothing | Act::ServeAndDie => serve(act, signal),
    }
}

/// Receives one call, says so, and dies with it or keeps it for ever.
fn serve(act: Act, signal: Notification) -> bool {
    let Some(endpoint) = startup::capability(act::ENDPOINT).map(Endpoint) else { return false };
    let Ok(server) = Server::new(endpoint, None) else { return false };
    if server.receive(u64::MAX).is_err() {
        return false;
    }
    let _ = signal.signal(act::DONE);
    if act == Act::ServeAndDie {
        return faults::read(0);
    }
    loop {
        rt::thread::park();
    }
}
