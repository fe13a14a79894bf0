//! Reads tar archives as container layers use them: ustar, GNU and PAX, with long names, extended attributes and sparse files.
//!
//! Owns: the archive's syntax. Must not know: what a member may be called or where it goes (that is the layer's matter). The archive is
//! untrusted: sizes are limited before memory is taken, and an archive that ends early is an error.

mod header;
mod pax;
mod sparse;

use super::error::ImageError;
use header::{BLOCK, Header};
use pax::Extensions;
use std::io::{self, Read};

pub(crate) use sparse::Segment;

/// Longest extended header or long name.
const MAX_EXTENSION: u64 = 8 << 20;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Directory,
    Fifo,
}

/// A member's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    /// Length of the contents, holes included.
    pub(crate) size: u64,
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: i64,
    pub(crate) modified_nanoseconds: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For sparse files: where the data that the archive holds belongs; ordered, without overlaps.
    pub(crate) segments: Option<Vec<Segment>>,
}

/// Why an archive cannot be read.
#[derive(Debug)]
pub(crate) enum TarError {
    /// The source failed, or ended early.
    Source(io::Error),
    /// The archive is damaged.
    Damaged(&'static str),
}

impl TarError {
    /// The error for people, about `what`.
    pub(crate) fn about(self, what: &str) -> ImageError {
        match self {
            Self::Source(cause) => ImageError::read(what, cause),
            Self::Damaged(reason) => {
                ImageError::BadArchive { what: what.to_owned(), reason: reason.to_owned() }
            }
        }
    }
}

impl From<io::Error> for TarError {
    fn from(cause: io::Error) -> Self {
        Self::Source(cause)
    }
}

/// An archive being read. The contents of the current member are what [`Read`] gives.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    source: R,
    /// Bytes of the current member's contents that were not read yet.
    remaining: u64,
    /// Bytes that follow them up to the next header.
    padding: u64,
    /// Offset in the archive.
    position: u64,
    members: u64,
}

impl<R: Read> TarReader<R> {
    /// Reads an archive from its beginning.
    pub(crate) fn new(source: R) -> Self {
        Self { source, remaining: 0, padding: 0, position: 0, members: 0 }
    }

    /// The offset of the current member's contents in the archive.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The source, wherever reading stopped.
    pub(crate) fn into_inner(self) -> R {
        self.source
    }

    /// The next member, or none at the archive's end.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        let mut is_announced = false;
        loop {
            let Some(header) = self.next_header()? else {
                let cut = || TarError::Source(io::ErrorKind::UnexpectedEof.into());
                return if is_announced { Err(cut()) } else { Ok(None) };
            };
            let size = header.size()?;
            // What these headers say is about a member that has to follow.
            is_announced |= matches!(header.kind(), b'L' | b'K' | b'x');
            match header.kind() {
                b'L' => extensions.path = Some(self.long_text(size)?),
                b'K' => extensions.link = Some(self.long_text(size)?),
                b'x' => {
                    let bytes = self.extension(size)?;
                    extensions.parse(&bytes)?;
                }
                b'g' => {
                    self.extension(size)?;
                }
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, TarError> {
        let mut member = header.member()?;
        let stored = match header.kind() {
            // Members of these kinds have no contents, whatever their size field says.
            b'1'..=b'6' => 0,
            _ => extensions.size.map_or_else(|| header.size(), Ok)?,
        };
        self.begin_contents(stored)?;
        member.size = stored;
        if header.kind() == b'S' {
            sparse::read_gnu(self, header, &mut member)?;
        }
        let map = extensions.apply(&mut member);
        if let Some(map) = map {
            sparse::apply_pax(self, map, &mut member)?;
        }
        match &mut member.kind {
            MemberKind::HardLink(target) | MemberKind::Symlink(target) if target.is_empty() => {
                Err(TarError::Damaged("a link without a target"))
            }
            MemberKind::File if member.path.ends_with(b"/") && member.size == 0 => {
                member.kind = MemberKind::Directory;
                Ok(member)
            }
            _ => Ok(member),
        }
    }

    fn begin_contents(&mut self, stored: u64) -> Result<(), TarError> {
        let rounded = stored.checked_next_multiple_of(BLOCK as u64);
        let padding = rounded.map(|rounded| rounded - stored);
        self.padding = padding.ok_or(TarError::Damaged("a size out of range"))?;
        self.remaining = stored;
        Ok(())
    }

    /// Skips what is left of the current member and reads the next header.
    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.skip(self.remaining)? > 0 {
            return Err(TarError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        let missing = self.skip(self.padding)?;
        (self.remaining, self.padding) = (0, 0);
        if missing > 0 {
            // Some writers leave out the padding of the last member with the archive's end.
            return self.end(None);
        }
        let Some(block) = self.read_block()? else { return self.end(None) };
        if block.iter().all(|byte| *byte == 0) {
            return self.end(Some(()));
        }
        self.members += 1;
        Header::new(block).map(Some)
    }

    /// Skips bytes and says how many of them the source did not have.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let skipped = io::copy(&mut (&mut self.source).take(count), &mut io::sink())?;
        self.position += skipped;
        Ok(count - skipped)
    }

    /// The archive's end: a block of zeros or, leniently, the end of the file after at least one member.
    fn end(&mut self, marker: Option<()>) -> Result<Option<Header>, TarError> {
        if marker.is_none() && self.members == 0 {
            return Err(TarError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(None)
    }

    /// One block, or none at the end of the source.
    pub(super) fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Source(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => filled += length,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    /// The contents of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::Damaged("an extended header larger than 8 MiB"));
        }
        self.begin_contents(size)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A GNU long name: up to its terminating zero.
    fn long_text(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.extension(size)?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let portion = buffer.get_mut(..limit).unwrap_or_default();
        if portion.is_empty() {
            return Ok(0);
        }
        let length = self.source.read(portion)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= length as u64;
        self.position += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
