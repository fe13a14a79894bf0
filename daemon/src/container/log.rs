//! A container's output, kept in two bounded files of binary records, so that nothing of it is lost in translation.
//!
//! A record is `time u64, stream u8, length u32` (little-endian) and the bytes. A record that a killed daemon left half written ends the
//! file; the next daemon begins a new one.

use contract::compartment::MAX_BYTES;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Bytes of one file.
const FILE_LIMIT: u64 = 8 << 20;
/// Length of a record's header.
const HEADER: usize = 13;

/// Some output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// 1 standard output, 2 standard error.
    pub stream: u8,
    /// The bytes.
    pub bytes: Vec<u8>,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("output.log")
}

fn old_path(directory: &Path) -> PathBuf {
    directory.join("output.log.1")
}

/// The writing side.
#[derive(Debug)]
pub struct LogWriter {
    directory: PathBuf,
    file: Option<File>,
    length: u64,
}

impl LogWriter {
    /// A writer for a container's directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file: None, length: FILE_LIMIT }
    }

    /// Appends; a full disk loses the text, not the container.
    pub fn append(&mut self, entry: &Entry) {
        if let Err(error) = self.try_append(entry) {
            tracing::warn!(%error, directory = %self.directory.display(), "a log cannot be written");
        }
    }

    fn try_append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.length >= FILE_LIMIT {
            match std::fs::rename(path(&self.directory), old_path(&self.directory)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = File::options();
            let options = options.create_new(true).append(true).mode(0o600);
            self.file = Some(options.open(path(&self.directory))?);
            self.length = 0;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let length = u32::try_from(entry.bytes.len()).unwrap_or_default();
        let mut record = Vec::with_capacity(HEADER + entry.bytes.len());
        record.extend_from_slice(&entry.time.to_le_bytes());
        record.push(entry.stream);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&entry.bytes);
        file.write_all(&record)?;
        self.length += record.len() as u64;
        Ok(())
    }
}

/// The reading side; can be asked again after the writer has written more.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    /// Files yet to be read, oldest first.
    files: VecDeque<BufReader<File>>,
    /// Bytes of a record that is not whole yet.
    partial: Vec<u8>,
}

impl LogReader {
    /// A reader that begins with the oldest entry.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let files = [old_path(directory), path(directory)];
        let files = files.iter().filter_map(|path| File::open(path).ok()).map(BufReader::new);
        Self { directory: directory.to_owned(), files: files.collect(), partial: Vec::new() }
    }

    /// The next entry; none when everything was read that is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some(file) = self.files.front_mut() else {
                if !self.open_newer(None)? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(entry) = read_entry(file, &mut self.partial)? {
                return Ok(Some(entry));
            }
            let read = file.get_ref().metadata()?.ino();
            let last = self.files.len() == 1;
            if last && !self.open_newer(Some(read))? {
                return Ok(None);
            }
            // The file has been rotated away, and everything in it was read.
            self.partial.clear();
            self.files.pop_front();
        }
    }

    /// Adds the current file if it is another than the one being read.
    fn open_newer(&mut self, current: Option<u64>) -> io::Result<bool> {
        let file = match File::open(path(&self.directory)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if current == Some(file.metadata()?.ino()) {
            return Ok(false);
        }
        self.files.push_back(BufReader::new(file));
        Ok(true)
    }
}

/// Reads one record; keeps what there is of a record that is not whole.
fn read_entry(file: &mut impl Read, partial: &mut Vec<u8>) -> io::Result<Option<Entry>> {
    if !fill(file, partial, HEADER)? {
        return Ok(None);
    }
    let bytes = partial.as_slice();
    let Some((time, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let Some(([stream, a, b, c, d], _)) = rest.split_first_chunk::<5>() else { return Ok(None) };
    let (time, stream) = (u64::from_le_bytes(*time), *stream);
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the log is damaged"));
    }
    if !fill(file, partial, HEADER + length)? {
        return Ok(None);
    }
    let bytes = partial.split_off(HEADER);
    partial.clear();
    Ok(Some(Entry { time, stream, bytes }))
}

/// Reads until the buffer has this length.
fn fill(file: &mut impl Read, buffer: &mut Vec<u8>, length: usize) -> io::Result<bool> {
    let missing = length.saturating_sub(buffer.len());
    file.take(missing as u64).read_to_end(buffer)?;
    Ok(buffer.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn entry(time: u64, bytes: &[u8]) -> Entry {
        Entry { time, stream: 1, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_reader_follows_a_writer_through_rotation() {
        let scratch = Scratch::new("log");
        let mut writer = LogWriter::new(scratch.path());
        let mut reader = LogReader::new(scratch.path());
        assert_eq!(reader.next_entry().unwrap(), None);
        for time in 0..2000 {
            let entry = entry(time, &vec![b'x'; MAX_BYTES - 7]);
            writer.append(&entry);
            assert_eq!(reader.next_entry().unwrap(), Some(entry));
            assert_eq!(reader.next_entry().unwrap(), None);
        }
        let sizes = std::fs::read_dir(scratch.path()).unwrap();
        let total: u64 = sizes.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(total < 3 * FILE_LIMIT);
    }

    #[test]
    fn a_half_written_record_ends_the_file_only() {
        let scratch = Scratch::new("log-cut");
        LogWriter::new(scratch.path()).append(&entry(1, b"one"));
        let mut file = File::options().append(true).open(path(scratch.path())).unwrap();
        file.write_all(&[7; 9]).unwrap();
        LogWriter::new(scratch.path()).append(&entry(2, b"two"));
        let mut reader = LogReader::new(scratch.path());
        assert_eq!(reader.next_entry().unwrap(), Some(entry(1, b"one")));
        assert_eq!(reader.next_entry().unwrap(), Some(entry(2, b"two")));
        assert_eq!(reader.next_entry().unwrap(), None);
    }
}
