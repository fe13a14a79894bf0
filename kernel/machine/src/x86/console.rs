//! The log: the first serial port.

use super::instruction;
use crate::object::SpinLock;
use core::fmt;

/// First serial port.
const PORT: u16 = 0x3f8;
/// Looks at the line status before a byte is sent regardless.
const PATIENCE: u32 = 10_000;

static LOCK: SpinLock<()> = SpinLock::new(31, ());

/// Sets the port to 115200 baud, 8 bits, with its queue on.
pub(super) fn set_up() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7)] {
        // SAFETY: the port is the kernel's; it does nothing to memory.
        unsafe { instruction::out_byte(PORT + register, value) };
    }
}

fn send(byte: u8) {
    for _ in 0..PATIENCE {
        // SAFETY: reading the line status has no effect.
        if unsafe { instruction::in_byte(PORT + 5) } & 0x20 != 0 {
            break;
        }
    }
    // SAFETY: as for `set_up`.
    unsafe { instruction::out_byte(PORT, byte) };
}

/// Appends to the log.
pub fn log_bytes(bytes: &[u8]) {
    let _guard = LOCK.lock();
    for byte in bytes {
        if *byte == b'\n' {
            send(b'\r');
        }
        send(*byte);
    }
}

/// The log as a writer that never waits for a lock: for the last words of the kernel.
pub(super) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}
