//! Reads QEMU's log of executed blocks, of one instruction each: how often each address ran, and in which runs.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
};

/// Addresses this near to each other belong to the same program.
const NEAR: u32 = 24;

/// Most addresses whose order is kept.
const ORDERED: usize = 8 << 20;

/// First address of the kernel's image.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// What ran.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// How often an address ran after another, which is the last one outside the kernel.
    counts: HashMap<(u64, u64), u64>,
    /// The last address outside the kernel.
    context: u64,
    /// First address and length of runs that stay near to it, in order.
    runs: Vec<(u64, u64)>,
    /// Every address, up to [`ORDERED`].
    order: Vec<u64>,
}

impl Trace {
    /// Instructions in all.
    pub(super) fn total(&self) -> u64 {
        self.runs.iter().map(|(_, count)| count).sum()
    }
    /// The last address outside the kernel, an address, and how often it ran then.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.counts.iter().map(|((context, address), count)| (*context, *address, *count))
    }
    /// Runs of instructions near to each other: an address of each, and its length.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().copied()
    }

    /// The addresses in the order they ran in, if they were not too many.
    pub(super) fn order(&self) -> Option<&[u64]> {
        (self.order.len() as u64 == self.total()).then_some(&self.order)
    }

    fn add(&mut self, address: u64) {
        if self.order.len() < ORDERED {
            self.order.push(address);
        }
        if address < KERNEL {
            self.context = address;
        }
        *self.counts.entry((self.context, address)).or_insert(0) += 1;
        match self.runs.last_mut() {
            Some((near, count)) if *near >> NEAR == address >> NEAR => *count += 1,
            _ => self.runs.push((address, 1)),
        }
    }

    /// An instruction that was announced did not run.
    fn take_back(&mut self, address: u64) {
        if let Some(count) = self.counts.get_mut(&(self.context, address)) {
            *count = count.saturating_sub(1);
        }
        if let Some((_, count)) = self.runs.last_mut() {
            *count = count.saturating_sub(1);
        }
        self.order.pop_if(|last| *last == address);
    }
}

/// Reads a log to its end.
pub(super) fn read(log: impl Read) -> Trace {
    let mut trace = Trace::default();
    let mut reader = BufReader::with_capacity(1 << 20, log);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if let Some(address) = address(&line) {
            if line.starts_with(b"Trace ") {
                trace.add(address);
            } else if line.starts_with(b"Stopped execution") {
                trace.take_back(address);
            }
        }
        line.clear();
    }
    trace
}

/// The address in `Trace 0: 0x7f... [cs_base/ADDRESS/flags/flags] ` and `Stopped execution of TB chain before 0x7f... [ADDRESS] `.
fn address(line: &[u8]) -> Option<u64> {
    let start = line.iter().position(|byte| *byte == b'[')? + 1;
    let end = start + line[start..].iter().position(|byte| *byte == b']')?;
    let inside = std::str::from_utf8(&line[start..end]).ok()?;
    let mut parts = inside.split('/');
    let first = parts.next()?;
    u64::from_str_radix(parts.next().unwrap_or(first), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "Trace 0: 0x7f00 [0000000000000000/ffff800000201234/0040c0b3/ff000201] x\n\
        Trace 0: 0x7f01 [0000000000000000/ffff800000201238/0040c0b3/ff000201] \n\
        Stopped execution of TB chain before 0x7f01 [ffff800000201238] \n\
        noise\n\
        Trace 0: 0x7f02 [0000000000000000/0000000000401000/0040c0b3/ff000201] \n";

    #[test]
    fn a_log_is_counted() {
        let trace = read(LOG.as_bytes());
        assert_eq!(trace.total(), 2);
        assert_eq!(trace.runs().collect::<Vec<_>>(), [(0xffff_8000_0020_1234, 1), (0x40_1000, 1)]);
        assert_eq!(trace.counts().filter(|(_, _, count)| *count > 0).count(), 2);
    }
}
