//! The client's own terminal: raw mode, size, detach keys.

use crate::error::{CliError, Result};
use contract::compartment::WindowSize;
use rustix::termios::{self, OptionalActions, Termios};

/// Puts the terminal into raw mode while it exists.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Changes the mode of standard input.
    pub(crate) fn enter() -> Result<Self> {
        let failed = |cause: rustix::io::Errno| CliError::Io {
            what: "the terminal cannot be set to raw mode".to_owned(),
            cause: cause.into(),
        };
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// The size of the terminal on standard output, or standard input.
pub(crate) fn size() -> Option<WindowSize> {
    let size = termios::tcgetwinsize(std::io::stdout())
        .or_else(|_| termios::tcgetwinsize(std::io::stdin()))
        .ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// The keys that detach unless others are chosen.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Looks for the detach keys in what is typed.
#[derive(Clone, Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachKeys {
    /// Parses docker's notation: `ctrl-p,ctrl-q`, letters; empty for none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut keys = Vec::new();
        for key in text.split(',').filter(|key| !key.is_empty()) {
            let byte = match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => letter - b'a' + 1,
                Some([b'@']) => 0,
                Some([other @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => other - b'@',
                Some(_) => return Err(CliError::Usage(format!("unknown detach key {key:?}"))),
                None if key.len() == 1 => key.as_bytes().first().copied().unwrap_or(0),
                None => return Err(CliError::Usage(format!("unknown detach key {key:?}"))),
            };
            keys.push(byte);
        }
        Ok(Self { keys, seen: 0 })
    }

    /// Filters typed bytes: what goes to the program, and whether to detach.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::new();
        for byte in bytes {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (through, true);
                }
                continue;
            }
            through.extend_from_slice(self.keys.get(..self.seen).unwrap_or_default());
            self.seen = 0;
            if self.keys.first() == Some(byte) {
                self.seen = 1;
            } else {
                through.push(*byte);
            }
        }
        (through, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_given_back_when_unfinished() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.filter(b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(keys.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
        assert!(DetachKeys::parse("ctrl-1x").is_err());
        assert_eq!(
            DetachKeys::parse("").unwrap().filter(b"\x10\x11"),
            (b"\x10\x11".to_vec(), false)
        );
    }
}
