//! Stops the machine at two places and has every instruction between them logged, over QEMU's debugger port.
//!
//! Protocol: GDB's manual, appendix "Remote Serial Protocol"; monitor commands travel as `qRcmd`.

use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// How long QEMU may take to open the port.
const OPENING: Duration = Duration::from_secs(20);
/// How long the machine may take to a place.
const RUNNING: Duration = Duration::from_secs(900);

/// Has the machine log from one address to another.
pub(super) fn window(socket: &Path, from: u64, to: u64) -> Result<()> {
    let mut debugger = Debugger::connect(socket)?;
    debugger.run_to(from).context("the first place was not reached")?;
    // Interrupts and timers go on as ever: the machine is never stepped, only slowed.
    debugger.monitor("singlestep on")?;
    debugger.monitor("log exec,nochain")?;
    debugger.run_to(to).context("the second place was not reached")?;
    debugger.monitor("log none")
}

struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    fn connect(socket: &Path) -> Result<Self> {
        let end = Instant::now() + OPENING;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => {
                    return Err(error).context("QEMU opens no debugger port");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(RUNNING))?;
        Ok(Self { stream })
    }

    /// Lets the machine run until it comes to an address.
    fn run_to(&mut self, address: u64) -> Result<()> {
        ensure!(self.ask(&format!("Z0,{address:x},1"))? == "OK", "no breakpoint at {address:#x}");
        let stop = self.ask("c")?;
        ensure!(stop.starts_with('T') || stop.starts_with('S'), "the machine ended: {stop:?}");
        ensure!(self.ask(&format!("z0,{address:x},1"))? == "OK", "a breakpoint stays");
        Ok(())
    }

    /// Gives QEMU's monitor a command.
    fn monitor(&mut self, command: &str) -> Result<()> {
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut answer = self.ask(&format!("qRcmd,{hex}"))?;
        while let Some(text) = answer.strip_prefix('O').filter(|_| answer != "OK") {
            let text = text.to_owned();
            answer = self.packet()?;
            ensure!(text.is_empty(), "QEMU says to {command:?}: {text}");
        }
        ensure!(answer == "OK", "QEMU refuses {command:?}: {answer}");
        Ok(())
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let sum = command.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.write_all(format!("${command}#{sum:02x}").as_bytes())?;
        self.packet()
    }

    /// The next packet, which is acknowledged.
    fn packet(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).context("QEMU's debugger port is closed")?;
            match (byte[0], bytes.is_empty()) {
                (b'+', true) => {}
                (b'-', true) => bail!("QEMU did not understand"),
                (b'#', _) => break,
                (byte, _) => bytes.push(byte),
            }
        }
        self.stream.read_exact(&mut [0; 2])?;
        self.stream.write_all(b"+")?;
        let text = String::from_utf8(bytes)?;
        Ok(text.strip_prefix('$').unwrap_or(&text).to_owned())
    }
}
