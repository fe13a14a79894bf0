//! The machine's log: what its serial port and the emulator printed, in two bounded files.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// Bytes of one file.
const FILE_LIMIT: u64 = 4 << 20;

/// A log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct MachineLog {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl MachineLog {
    /// The log in a directory; what was there is kept.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self::named(directory, "machine.log")
    }

    /// A log with another name.
    #[must_use]
    pub fn named(directory: &Path, name: &str) -> Self {
        let path = directory.join(name);
        let inner = Inner { path, file: None, length: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), changed: watch::Sender::new(0) }
    }

    /// Appends; a full disk loses the text, not the machine.
    pub fn append(&self, bytes: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.append(bytes) {
            tracing::warn!(%error, "the machine's log cannot be written");
        }
        drop(inner);
        self.changed.send_modify(|total| *total += bytes.len() as u64);
    }

    /// The last line that is not empty, after a colon; nothing when there is none.
    #[must_use]
    pub fn last_line(&self) -> String {
        let text = self.read();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.map(|line| format!(": {}", line.trim())).unwrap_or_default()
    }

    /// Everything that is kept.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = std::fs::read(inner.old()).unwrap_or_default();
        bytes.extend(std::fs::read(&inner.path).unwrap_or_default());
        bytes
    }

    /// Tells of every append: the bytes appended since the log was opened.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The last bytes, at most so many.
    #[must_use]
    pub fn tail(&self, length: u64) -> Vec<u8> {
        let bytes = self.read();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let start = bytes.len().saturating_sub(length);
        bytes.get(start..).unwrap_or_default().to_vec()
    }
}

impl Inner {
    fn old(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= FILE_LIMIT {
            self.file = None;
            std::fs::rename(&self.path, self.old())?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut options = File::options();
                let mut file = options.create(true).append(true).mode(0o600).open(&self.path)?;
                self.length = file.seek(SeekFrom::End(0))?;
                none.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the last bytes of a file; nothing when it cannot be read.
#[must_use]
pub fn file_tail(path: &Path, length: u64) -> Vec<u8> {
    let read = || {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(length)))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_log_is_bounded_and_keeps_the_end() {
        let scratch = Scratch::new("machine-log");
        let log = MachineLog::open(scratch.path());
        for round in 0u8..40 {
            log.append(&vec![round; 512 * 1024]);
        }
        log.append(b"\nlast\n\n");
        assert!(log.read().len() as u64 <= 2 * FILE_LIMIT + (1 << 20));
        assert_eq!(log.last_line(), ": last");
    }
}
