//! Sparse files in their four encodings: GNU's own header, and GNU's PAX records in versions 0.0, 0.1 and 1.0.

use super::{
    Member, TarError, TarReader,
    header::{BLOCK, Header, number},
    pax::decimal,
};
use std::io::Read;

/// Largest number of segments of one file.
const MAX_SEGMENTS: usize = 1 << 20;

/// A part of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

const BAD: TarError = TarError::Damaged("a malformed sparse map");

/// Checks a map against the file's length and the stored length.
fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), TarError> {
    let (mut end, mut total) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err(BAD);
        }
        end = segment.offset.checked_add(segment.length).ok_or(BAD)?;
        total = total.checked_add(segment.length).ok_or(BAD)?;
    }
    if end > size || total != stored { Err(BAD) } else { Ok(()) }
}

/// Reads the map of a member with GNU's sparse header; continued in blocks before the contents.
pub(crate) fn read_gnu<R: Read>(
    reader: &mut TarReader<R>,
    header: &Header,
    member: &mut Member,
) -> Result<(), TarError> {
    let stored = member.size;
    let size = u64::try_from(number(header.field(483, 12))?).map_err(|_| BAD)?;
    let mut segments = Vec::new();
    add_entries(&mut segments, header.field(386, 96))?;
    let mut continued = header.field(482, 1) == [1];
    while continued {
        let block = reader.read_block()?.ok_or(BAD)?;
        let (entries, rest) = block.split_at(504);
        add_entries(&mut segments, entries)?;
        continued = rest.first() == Some(&1);
    }
    check(&segments, size, stored)?;
    (member.size, member.segments) = (size, Some(segments));
    Ok(())
}

fn add_entries(segments: &mut Vec<Segment>, entries: &[u8]) -> Result<(), TarError> {
    for entry in entries.chunks_exact(24) {
        let (offset, length) = entry.split_at(12);
        if offset.first() == Some(&0) {
            break;
        }
        let field = |field| number(field).and_then(|n| u64::try_from(n).map_err(|_| BAD));
        push(segments, Segment { offset: field(offset)?, length: field(length)? })?;
    }
    Ok(())
}

fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), TarError> {
    if segments.len() >= MAX_SEGMENTS {
        return Err(TarError::Damaged("a sparse file with more than a million segments"));
    }
    segments.push(segment);
    Ok(())
}

/// The sparse records of a PAX header.
#[derive(Debug, Default)]
pub(crate) struct PaxMap {
    major: Option<u32>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Versions 0.0 and 0.1: offsets and lengths in turn.
    numbers: Vec<u64>,
    listed: bool,
}

impl PaxMap {
    /// Takes a record if it is one of these; none for a malformed value.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"GNU.sparse.major" => self.major = Some(decimal(value)?),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.size = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.listed = true;
                self.add(value)?;
            }
            b"GNU.sparse.map" => {
                self.listed = true;
                for number in value.split(|byte| *byte == b',').filter(|n| !n.is_empty()) {
                    self.add(number)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn add(&mut self, value: &[u8]) -> Option<()> {
        self.numbers.push(decimal(value)?);
        (self.numbers.len() <= 2 * MAX_SEGMENTS).then_some(())
    }

    /// Whether any record was there.
    pub(super) fn is_present(&self) -> bool {
        self.listed || self.major == Some(1)
    }
}

/// Gives a member the map of its PAX records; version 1.0 has it at the beginning of the contents.
pub(crate) fn apply_pax<R: Read>(
    reader: &mut TarReader<R>,
    map: PaxMap,
    member: &mut Member,
) -> Result<(), TarError> {
    let numbers = if map.major == Some(1) { read_numbers(reader)? } else { map.numbers };
    let mut segments = Vec::new();
    for pair in numbers.chunks(2) {
        let [offset, length] = *pair else { return Err(BAD) };
        push(&mut segments, Segment { offset, length })?;
    }
    let size = map.size.ok_or(BAD)?;
    check(&segments, size, reader.remaining)?;
    if let Some(name) = map.name {
        member.path = name;
    }
    (member.size, member.segments) = (size, Some(segments));
    Ok(())
}

/// Version 1.0: decimal numbers, one a line, the first their count; padded to whole blocks.
fn read_numbers<R: Read>(reader: &mut TarReader<R>) -> Result<Vec<u64>, TarError> {
    let (mut numbers, mut line) = (Vec::new(), Vec::new());
    let mut expected = None;
    loop {
        let mut block = [0; BLOCK];
        reader.read_exact(&mut block)?;
        for byte in block {
            if expected == Some(numbers.len()) {
                return Ok(numbers);
            }
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(BAD);
                }
                continue;
            }
            let number: u64 = decimal(&line).ok_or(BAD)?;
            line.clear();
            match expected {
                Some(_) => numbers.push(number),
                None => {
                    let count = usize::try_from(number).ok().filter(|n| *n <= MAX_SEGMENTS);
                    expected = Some(count.ok_or(BAD)? * 2);
                }
            }
        }
        if expected == Some(numbers.len()) {
            return Ok(numbers);
        }
    }
}
