//! The emulator's debugging port: reads and writes the memory of a running machine, as no program in it could.
//!
//! Owns: the few packets of gdb's remote protocol that this takes. The machine stands still while a [`Debugger`] exists.

use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Bytes of memory in one packet.
const PART: usize = 1024;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection; the machine goes on when it is dropped.
pub(super) struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    /// Stops the machine behind a socket and begins to speak of physical addresses.
    pub(super) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("no debugging port at {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut debugger = Self { stream };
        debugger.ask("qSupported")?;
        ensure!(debugger.ask("Qqemu.PhyMemMode:1")? == "OK", "no physical addresses");
        Ok(debugger)
    }

    /// Physical memory.
    pub(super) fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let text = self.ask(&format!("m{address:x},{length:x}"))?;
        let pairs = text.as_bytes().chunks_exact(2).map(str::from_utf8);
        let bytes: Vec<u8> =
            pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect::<Result<_>>()?;
        ensure!(bytes.len() == length, "memory at {address:#x} cannot be read: {text:?}");
        Ok(bytes)
    }

    /// Writes one byte over a range of physical memory.
    pub(super) fn fill(&mut self, address: u64, length: usize, byte: u8) -> Result<()> {
        for begin in (0..length).step_by(PART) {
            let part = PART.min(length - begin);
            let packet = format!(
                "M{:x},{part:x}:{}",
                address + begin as u64,
                format!("{byte:02x}").repeat(part)
            );
            ensure!(self.ask(&packet)? == "OK", "memory cannot be written");
        }
        Ok(())
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        Ok(self.stream.write_all(format!("${packet}#{sum:02x}").as_bytes())?)
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        loop {
            let text = self.receive(packet)?;
            // That the machine has stopped is told unasked.
            if !text.starts_with('T') {
                return Ok(text);
            }
        }
    }

    fn receive(&mut self, packet: &str) -> Result<String> {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).context("the debugging port is silent")?;
            match byte[0] {
                b'+' => {}
                b'-' => bail!("the debugging port did not understand {packet:?}"),
                b'$' => text.clear(),
                b'#' => break,
                other => text.push(other),
            }
        }
        self.stream.read_exact(&mut [0; 2])?;
        self.stream.write_all(b"+")?;
        Ok(String::from_utf8(text)?)
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // A machine that has ended needs no leave.
        let _ = self.ask("D");
    }
}
