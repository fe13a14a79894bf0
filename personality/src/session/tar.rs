//! The tar format, as far as `docker cp` needs it: ustar headers with PAX records, and GNU's long names when reading (POSIX pax, tar(5)).
//!
//! Must not know: nodes. Everything that is read may be malformed.

use crate::linux::Errno;
use alloc::{format, string::ToString, vec::Vec};

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;
/// Longest PAX header or long name.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A regular file.
    #[default]
    File,
    /// Another name of an earlier entry.
    Hardlink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// PAX records of the next entry.
    Pax,
    /// PAX records of all further entries.
    GlobalPax,
    /// GNU's long name of the next entry.
    LongName,
    /// GNU's long link target of the next entry.
    LongLink,
}

impl EntryKind {
    const FLAGS: [(u8, Self); 11] = [
        (b'0', Self::File),
        (b'1', Self::Hardlink),
        (b'2', Self::Symlink),
        (b'3', Self::Character),
        (b'4', Self::Block),
        (b'5', Self::Directory),
        (b'6', Self::Fifo),
        (b'x', Self::Pax),
        (b'g', Self::GlobalPax),
        (b'L', Self::LongName),
        (b'K', Self::LongLink),
    ];
    fn from_flag(flag: u8) -> Option<Self> {
        match flag {
            0 | b'7' => Some(Self::File),
            _ => Self::FLAGS.iter().find(|(known, _)| *known == flag).map(|(_, kind)| *kind),
        }
    }
    fn flag(self) -> u8 {
        Self::FLAGS.iter().find(|(_, kind)| *kind == self).map_or(b'0', |(flag, _)| *flag)
    }
}

/// An entry without its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Path.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of contents that follow.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
    /// Device number: major, minor.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Bytes after contents up to the next block.
#[must_use]
pub(super) const fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8], limit: usize) {
    for (place, byte) in block.iter_mut().skip(at).zip(bytes.iter().take(limit)) {
        *place = *byte;
    }
}

fn put_number(block: &mut [u8; BLOCK], at: usize, digits: usize, value: u64) {
    put(block, at, format!("{value:0digits$o}").as_bytes(), digits);
}

fn record(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // The length counts itself.
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length += 1;
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn block(entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, &entry.path, 100);
    put_number(&mut block, 100, 7, (entry.mode & 0o7777).into());
    put_number(&mut block, 108, 7, u64::from(entry.uid) & 0o777_7777);
    put_number(&mut block, 116, 7, u64::from(entry.gid) & 0o777_7777);
    put_number(&mut block, 124, 11, entry.size & 0o777_7777_7777);
    put_number(&mut block, 136, 11, entry.modified.max(0).cast_unsigned() & 0o777_7777_7777);
    put(&mut block, 148, b"        ", 8);
    put(&mut block, 156, &[entry.kind.flag()], 1);
    put(&mut block, 157, &entry.link, 100);
    put(&mut block, 257, b"ustar\x0000", 8);
    put_number(&mut block, 329, 7, entry.device.0.into());
    put_number(&mut block, 337, 7, entry.device.1.into());
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes(), 8);
    block
}

/// Adds an entry's header, with PAX records for what it has no room for.
pub(super) fn write_header(out: &mut Vec<u8>, entry: &Entry) {
    let mut records = Vec::new();
    if entry.path.len() > 100 {
        record(&mut records, b"path", &entry.path);
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    for (name, value, limit) in [
        (&b"uid"[..], u64::from(entry.uid), 0o777_7777),
        (b"gid", entry.gid.into(), 0o777_7777),
        (b"size", entry.size, 0o777_7777_7777),
    ] {
        if value > limit {
            record(&mut records, name, value.to_string().as_bytes());
        }
    }
    if entry.modified < 0 {
        record(&mut records, b"mtime", entry.modified.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        let path = b"././@PaxHeader".to_vec();
        let pax = Entry { kind: EntryKind::Pax, path, mode: 0o644, size, ..Entry::default() };
        out.extend_from_slice(&block(&pax));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(size) as usize, 0);
    }
    out.extend_from_slice(&block(entry));
}

fn text(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    let field = block.get(at..at + length).unwrap_or_default();
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field.get(..end).unwrap_or_default()
}

/// A number in octal digits, or, with the top bit set, in binary.
fn number(block: &[u8; BLOCK], at: usize, length: usize) -> Result<u64, Errno> {
    let field = block.get(at..at + length).unwrap_or_default();
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let start = u64::from(first & 0x3f);
        return rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).map(|value| value + u64::from(*byte)).ok_or(Errno::EINVAL)
        });
    }
    let digits = text(block, at, length).trim_ascii();
    digits
        .iter()
        .try_fold(0_u64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8).map(|v| v + u64::from(digit - b'0')),
            _ => None,
        })
        .ok_or(Errno::EINVAL)
}

/// Reads a header; `None` for a block of zeros (the end).
///
/// # Errors
/// `EINVAL`: no header, wrong sum, unknown kind.
pub(super) fn read_header(block: &[u8; BLOCK]) -> Result<Option<Entry>, Errno> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let is_sum = |at: usize| (148..156).contains(&at);
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if is_sum(at) { 32 } else { u64::from(*byte) })
        .sum();
    if number(block, 148, 8)? != sum {
        return Err(Errno::EINVAL);
    }
    let [flag] = [block[156]];
    let mut path = text(block, 0, 100).to_vec();
    let prefix = text(block, 345, 155);
    if text(block, 257, 6) == b"ustar" && !prefix.is_empty() {
        path = [prefix, b"/", &path[..]].concat();
    }
    let small = |at| number(block, at, 8).map(|value| value as u32);
    Ok(Some(Entry {
        kind: EntryKind::from_flag(flag).ok_or(Errno::EINVAL)?,
        path,
        link: text(block, 157, 100).to_vec(),
        mode: small(100)? & 0o7777,
        uid: small(108)?,
        gid: small(116)?,
        size: number(block, 124, 12)?,
        modified: number(block, 136, 12)?.cast_signed(),
        device: (small(329).unwrap_or(0), small(337).unwrap_or(0)),
        xattrs: Vec::new(),
    }))
}

/// Applies PAX records to the entry they belong to.
///
/// # Errors
/// `EINVAL`; `EOPNOTSUPP` for sparse files.
pub(super) fn apply_records(mut records: &[u8], entry: &mut Entry) -> Result<(), Errno> {
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ').ok_or(Errno::EINVAL)?;
        let digits = records.get(..space).unwrap_or_default();
        let length = decimal(digits).ok_or(Errno::EINVAL)? as usize;
        let body = records.get(space + 1..length).ok_or(Errno::EINVAL)?;
        records = records.get(length..).unwrap_or_default();
        let body = body.strip_suffix(b"\n").ok_or(Errno::EINVAL)?;
        let equals = body.iter().position(|byte| *byte == b'=').ok_or(Errno::EINVAL)?;
        let (name, value) = body.split_at(equals);
        apply_record(name, value.get(1..).unwrap_or_default(), entry)?;
    }
    Ok(())
}

fn apply_record(name: &[u8], value: &[u8], entry: &mut Entry) -> Result<(), Errno> {
    let number = || decimal(value).ok_or(Errno::EINVAL);
    match name {
        b"path" => entry.path = value.to_vec(),
        b"linkpath" => entry.link = value.to_vec(),
        b"size" => entry.size = number()?,
        b"uid" => entry.uid = number()? as u32,
        b"gid" => entry.gid = number()? as u32,
        b"mtime" => {
            // Fractions are of no use here.
            let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
            let (sign, digits) = match whole.strip_prefix(b"-") {
                Some(digits) => (-1, digits),
                None => (1, whole),
            };
            entry.modified = sign * decimal(digits).ok_or(Errno::EINVAL)?.cast_signed();
        }
        name if name.starts_with(b"GNU.sparse.") => return Err(Errno::EOPNOTSUPP),
        name => {
            if let Some(name) = name.strip_prefix(b"SCHILY.xattr.") {
                entry.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.parse::<u64>().ok().filter(|value| *value < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_written() {
        let entry = Entry {
            kind: EntryKind::Symlink,
            path: alloc::vec![b'p'; 300],
            link: alloc::vec![b'l'; 150],
            mode: 0o4755,
            uid: 3_000_000,
            gid: 7,
            size: 1 << 34,
            modified: -5,
            device: (0, 0),
            xattrs: alloc::vec![(b"user.a".to_vec(), b"x=\ny".to_vec())],
        };
        let mut bytes = Vec::new();
        write_header(&mut bytes, &entry);
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        assert!(rest.is_empty());
        let pax = read_header(&blocks[0]).unwrap().unwrap();
        assert_eq!(pax.kind, EntryKind::Pax);
        let mut read = read_header(blocks.last().unwrap()).unwrap().unwrap();
        apply_records(&bytes[BLOCK..BLOCK + pax.size as usize], &mut read).unwrap();
        assert_eq!(read, entry);
    }

    #[test]
    fn malformed_headers_are_refused() {
        let mut good = block(&Entry { path: b"a".to_vec(), ..Entry::default() });
        assert!(read_header(&good).unwrap().is_some());
        good[0] = b'b';
        assert_eq!(read_header(&good), Err(Errno::EINVAL));
        assert_eq!(read_header(&[0; BLOCK]), Ok(None));
        let mut entry = Entry::default();
        for bad in [&b"9"[..], b"0 a=b\n", b"99 a=b\n", b"6 a=bX", b"x a=b\n"] {
            assert_eq!(apply_records(bad, &mut entry), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
