//! The kernel's log, line by line.

use crate::arch;
use core::fmt::{self, Write};
use kernel_abi::Operation;

/// Longest line that stays whole.
const LINE: usize = 256;

/// A line being put together.
pub struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Line")
    }
}

impl Line {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; LINE], length: 0 }
    }
    /// Sends what has been collected.
    pub fn flush(&mut self) {
        send(self.bytes.get(..self.length).unwrap_or_default());
        self.length = 0;
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length == LINE {
                self.flush();
            }
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// Appends bytes to the log.
pub fn send(bytes: &[u8]) {
    for part in bytes.chunks(32) {
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(part.chunks(8)) {
            let mut whole = [0; 8];
            for (to, from) in whole.iter_mut().zip(bytes) {
                *to = *from;
            }
            *word = u64::from_le_bytes(whole);
        }
        let [a, b, c, d] = words;
        let _ = arch::call(Operation::Log, [part.len() as u64, a, b, c, d, 0]);
    }
}

/// Logs a formatted line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    let _ = line.write_str("\n");
    line.flush();
}

/// Logs a line: `rt::log!("text {}", value)`.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
