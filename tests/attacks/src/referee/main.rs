//! The referee: sets an attacker beside a victim, again and again, with the real services between them, and says who kept what.
//!
//! Owns: the matches, the time they get, the victim's rights that must hold. It stands where the control service stands otherwise and is a client of the
//! compartments service as the daemon is. Must not know: how an attack works. One line a match on the log, `test NAME ... ok` or `FAILED (why)`.
//! The kernel command line chooses: `suite=TEXT` the matches whose names contain TEXT, `soak=N` the number of lives of the last one; `budgets` the
//! trials of time instead; `counted` says that the clock counts instructions.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

#[path = "../board.rs"]
mod board;
mod budgets;
mod client;
mod faults;
mod ledger;
mod matches;

use alloc::{string::String, vec::Vec};
use client::Client;
use ledger::Accounts;
use rt::{Hardware, abi::operation::HardwareFact, startup};

rt::entry!(main);

/// Longest command line that is read.
const COMMAND_LINE: u64 = 2048;

/// What every match can use.
pub(crate) struct Arena {
    pub(crate) client: Client,
    pub(crate) hardware: Hardware,
    pub(crate) accounts: Accounts,
    pub(crate) filter: String,
    /// The clock counts instructions.
    pub(crate) is_counted: bool,
    /// Lives of the soak.
    pub(crate) lives: u64,
}

/// Pages that the referee keeps for itself.
const RESERVE: u64 = 16;

fn main() {
    let Some(hardware) = startup::capability("hardware").map(Hardware) else { return };
    // What it would touch for the first time in the middle of a case has its frame from now on: the ledger is exact.
    if let Err(error) = rt::heap::keep_reserve(RESERVE) {
        rt::log!("FAILED the referee has too little memory: {error:?}");
    }
    let line = command_line(hardware);
    let accounts =
        Accounts::open(hardware).ok_or_else(|| String::from("it was handed no accounts"));
    let (client, accounts) = match Client::new().and_then(|client| Ok((client, accounts?))) {
        Ok(both) => both,
        Err(error) => {
            rt::log!("FAILED the referee cannot begin: {error}");
            let _ = hardware.power(0, 1);
            return;
        }
    };
    let arena = Arena {
        client,
        hardware,
        accounts,
        filter: word(&line, "suite=").unwrap_or_default().into(),
        is_counted: word(&line, "counted").is_some(),
        lives: word(&line, "soak=").and_then(|text| text.parse().ok()).unwrap_or(300),
    };
    let is_budgets = word(&line, "budgets").is_some();
    let (passed, failed) = if is_budgets { budgets::all(&arena) } else { matches::all(&arena) };
    rt::log!("{passed} passed, {failed} failed");
    let _ = hardware.power(0, u8::from(failed > 0 || passed == 0));
}

/// The kernel's command line.
fn command_line(hardware: Hardware) -> String {
    let mut bytes = Vec::new();
    for at in (0..COMMAND_LINE).step_by(8) {
        let Ok(word) = hardware.fact_at(HardwareFact::CommandLine as u64 + at) else { break };
        bytes.extend(word.to_le_bytes());
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    String::from_utf8(bytes).unwrap_or_default()
}

/// The rest of the word that begins with a name.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}
