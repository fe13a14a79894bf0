//! The assistant: a Domain of its own that misbehaves on request.
//!
//! Owns: the misdeeds. Must not know: what the suite expects of them.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../act.rs"]
mod act;

use act::Act;
use rt::{Notification, startup};

rt::entry!(main);

fn main() {
    let Some(act) = startup::value(act::ACT).and_then(Act::from_number) else { return };
    let Some(signal) = startup::capability(act::SIGNAL).map(Notification) else { return };
    let _ = signal.signal(act::BEGUN);
    perform(act);
    let _ = signal.signal(act::DONE);
}

fn perform(act: Act) {
    match act {
        Act::Greet => {}
        Act::Spin => loop {
            core::hint::spin_loop();
        },
        Act::Park => loop {
            rt::thread::park();
        },
    }
}
