//! The benchmark's program in the machine: creates compartments as any native client may, and prints what they cost.
//!
//! Owns: the measured requests, the channels of the compartments it creates (in the place of the control service, so that nothing leaves the machine
//! while a figure is taken), the lines that `cargo xtask bench` reads. Must not know: how a compartment is made. The kernel command line chooses:
//! `bench=SUITE`, `quick=0|1`, `icount=0|1` (whether a tick is an instruction), and for the suite `micro` the figures, `figures=NAME,NAME`.
//!
//! ```text
//! S begin SUITE ... S end SUITE        everything between belongs to the suite; a suite without its end is void
//! R NAME METRIC n= min= p50= p99= max= mean=      statistics        V NAME METRIC a b c ...      the samples behind them
//! M NAME bytes=N ...                   one reading                  WARN NAME: why                the figure is void
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod client;
mod desk;
mod mark;
mod sample;
mod suites;

use alloc::{string::String, vec::Vec};
use client::Client;
use contract::images::Digest;
use rt::{Hardware, abi::operation::HardwareFact, startup};

rt::entry!(main);

/// Longest command line that is read.
const COMMAND_LINE: u64 = 2048;
/// The machine's status when the suite could not be run.
const FAILED: u8 = 1;

/// What a suite works with.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) hardware: Hardware,
    pub(crate) line: String,
    /// Fewer repetitions.
    pub(crate) quick: bool,
}

fn main() {
    let Some(hardware) = startup::capability("hardware").map(Hardware) else {
        rt::log!("WARN bench: there is no hardware capability");
        return;
    };
    let line = command_line(hardware);
    let status = match run(hardware, line) {
        Ok(()) => 0,
        Err(error) => {
            rt::log!("WARN bench: {error}");
            FAILED
        }
    };
    let _ = hardware.power(0, status);
}

fn run(hardware: Hardware, line: String) -> Result<(), client::Failure> {
    let is_icount = word(&line, "icount=") != Some("0");
    if !is_icount {
        sample::print_nanoseconds();
    }
    let layer = word(&line, "layer=").and_then(digest);
    let layer = layer.ok_or_else(|| client::Failure("layer= is no digest".into()))?;
    let client = Client::new(layer, is_icount)?;
    let suite = String::from(word(&line, "bench=").unwrap_or("start"));
    let quick = word(&line, "quick=") == Some("1");
    let mut bench = Bench { client, hardware, line, quick };
    for name in suite.split(',') {
        let suite = suites::find(name)?;
        rt::log!("S begin {name}");
        suite(&mut bench)?;
        rt::log!("S end {name}");
    }
    Ok(())
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

/// A digest in hexadecimal digits.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (place, pair) in digest.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *place = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// The rest of the word that begins with a name.
pub(crate) fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}
