//! Turns one layer's tar stream into a blob: the OCI rules on names, whiteouts and opaque directories.
//!
//! Owns: which names are refused and why, and the limits against decompression bombs. Must not know: how blobs look on disk, where the
//! stream comes from. A layer with any refused member is refused whole.

use super::{
    digest::{Algorithm, Digest, HashingReader},
    erofs::{self, BlobWriter, StoreFailure},
    error::ImageError,
    tar::{Member, MemberKind, Segment, TarReader},
    tree::{Attributes, Contents, Directory, Kind, Tree, TreeError},
};
use std::{io::Read, path::Path};

/// How large an unpacked layer may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of contents, holes included.
    pub bytes: u64,
    /// Members.
    pub members: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 30, members: 1_000_000 }
    }
}

/// Longest path of a member.
const MAX_PATH: usize = 4096;

/// Attributes that file systems use for their own bookkeeping; an image has no say in them.
const RESERVED_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The components of a member's name.
fn components<'a>(path: &'a [u8], link: bool) -> Result<Vec<&'a [u8]>, ImageError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let escape = |reason| Err(ImageError::Escape { path: shown(), reason });
    if path.starts_with(b"/") {
        return escape(if link {
            "the target of the hard link is an absolute path"
        } else {
            "the name is an absolute path"
        });
    }
    if path.contains(&0) {
        return Err(ImageError::BadMember { path: shown(), reason: "a name contains a zero byte" });
    }
    if path.len() > MAX_PATH {
        return Err(ImageError::BadMember { path: shown(), reason: "the path is too long" });
    }
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<&'a [u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return escape("the name leads out of its directory with '..'");
    }
    Ok(parts)
}

/// Words a refusal of the tree.
fn refused(path: &[u8], error: TreeError) -> ImageError {
    let path = String::from_utf8_lossy(path).into_owned();
    match error {
        TreeError::ThroughSymlink => ImageError::Escape { path, reason: error.reason() },
        _ => ImageError::BadMember { path, reason: error.reason() },
    }
}

/// What unpacking a layer gives.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The tree, whiteouts not settled.
    pub(crate) tree: Tree,
    /// Digest of the uncompressed stream.
    pub(crate) diff_id: Digest,
}

/// Reads a layer's uncompressed tar stream, to its very end.
pub(crate) fn unpack(
    stream: impl Read,
    algorithm: Algorithm,
    what: &str,
    limits: Limits,
    blob: &mut BlobWriter,
    blob_path: &Path,
    progress: &mut dyn FnMut() -> Result<(), ImageError>,
) -> Result<Unpacked, ImageError> {
    let mut reader = TarReader::new(HashingReader::new(stream, algorithm));
    let mut unpacker = Unpacker { tree: Tree::default(), blob, blob_path, what };
    let (mut bytes, mut members) = (0u64, 0u64);
    let bomb = |limit, unit| ImageError::Bomb { what: what.to_owned(), limit, unit };
    while let Some(member) = reader.next_member().map_err(|error| error.about(what))? {
        progress()?;
        members += 1;
        bytes = bytes.saturating_add(member.size);
        if members > limits.members {
            return Err(bomb(limits.members, "members"));
        }
        if bytes > limits.bytes {
            return Err(bomb(limits.bytes, "bytes"));
        }
        unpacker.add(&mut reader, member)?;
    }
    let tree = unpacker.tree;
    let (diff_id, _) =
        reader.into_inner().finish().map_err(|cause| ImageError::read(what, cause))?;
    Ok(Unpacked { tree, diff_id })
}

struct Unpacker<'a> {
    tree: Tree,
    blob: &'a mut BlobWriter,
    blob_path: &'a Path,
    what: &'a str,
}

impl Unpacker<'_> {
    fn add<R: Read>(
        &mut self,
        reader: &mut TarReader<R>,
        member: Member,
    ) -> Result<(), ImageError> {
        let path = components(&member.path, false)?;
        let fail = |error| refused(&member.path, error);
        if let Some((name, parents)) = path.split_last()
            && let Some(hidden) = name.strip_prefix(b".wh.")
        {
            return match hidden {
                b".wh..opq" => self.tree.make_opaque(parents).map_err(fail),
                // Bookkeeping of a file system that some archives still carry.
                _ if hidden.starts_with(b".wh.") => Ok(()),
                b"" | b"." | b".." => Err(ImageError::BadMember {
                    path: String::from_utf8_lossy(&member.path).into_owned(),
                    reason: "a whiteout names no file",
                }),
                _ => self.tree.whiteout(parents, hidden).map_err(fail),
            };
        }
        // Directories on the way are checked before contents are copied.
        self.tree.make_directories(path.split_last().map_or(&[], |(_, p)| p)).map_err(fail)?;
        let kind = match &member.kind {
            MemberKind::HardLink(target) => {
                let target = components(target, true)?;
                return self.tree.hard_link(&path, &target).map_err(fail);
            }
            MemberKind::File => Kind::File(self.contents(reader, &member)?),
            MemberKind::Symlink(target) => Kind::Symlink(symlink_target(&member.path, target)?),
            MemberKind::Directory => Kind::Directory(Directory::default()),
            MemberKind::Fifo => Kind::Fifo,
            &MemberKind::CharacterDevice { major, minor } => Kind::CharacterDevice { major, minor },
            &MemberKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        };
        self.tree.insert(&path, attributes(&member), kind).map(|_| ()).map_err(fail)
    }

    fn contents<R: Read>(
        &mut self,
        reader: &mut TarReader<R>,
        member: &Member,
    ) -> Result<Contents, ImageError> {
        let stored = match &member.segments {
            None => erofs::store_contents(self.blob, reader, member.size),
            Some(segments) => self.sparse_contents(reader, member.size, segments),
        };
        stored.map_err(|failure| match failure {
            StoreFailure::Source(cause) => ImageError::read(self.what, cause),
            StoreFailure::Blob(cause) => ImageError::store(self.blob_path, cause),
        })
    }

    fn sparse_contents<R: Read>(
        &mut self,
        reader: &mut TarReader<R>,
        size: u64,
        segments: &[Segment],
    ) -> Result<Contents, StoreFailure> {
        if size < erofs::INLINE_LIMIT {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            for segment in segments {
                let range = usize::try_from(segment.offset)
                    .ok()
                    .zip(usize::try_from(segment.offset + segment.length).ok());
                let part = range.and_then(|(start, end)| bytes.get_mut(start..end));
                reader.read_exact(part.unwrap_or_default()).map_err(StoreFailure::Source)?;
            }
            return Ok(Contents::Inline(bytes));
        }
        let first_block = self.blob.begin_file().map_err(StoreFailure::Blob)?;
        let mut position = 0;
        for segment in segments {
            self.blob.write_hole(segment.offset - position).map_err(StoreFailure::Blob)?;
            copy(reader, self.blob, segment.length)?;
            position = segment.offset + segment.length;
        }
        self.blob.write_hole(size - position).map_err(StoreFailure::Blob)?;
        self.blob.end_file().map_err(StoreFailure::Blob)?;
        Ok(Contents::Plain { first_block, size })
    }
}

fn copy(source: &mut impl Read, blob: &mut BlobWriter, length: u64) -> Result<(), StoreFailure> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let portion = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = buffer.get_mut(..portion).unwrap_or_default();
        source.read_exact(part).map_err(StoreFailure::Source)?;
        blob.write(part).map_err(StoreFailure::Blob)?;
        left -= portion as u64;
    }
    Ok(())
}

/// A symbolic link may point anywhere: it is followed inside the compartment. It only has to be a path.
fn symlink_target(path: &[u8], target: &[u8]) -> Result<Vec<u8>, ImageError> {
    let bad = |reason| {
        Err(ImageError::BadMember { path: String::from_utf8_lossy(path).into_owned(), reason })
    };
    if target.len() >= MAX_PATH {
        return bad("the target of the symbolic link is too long");
    }
    if target.contains(&0) {
        return bad("the target of the symbolic link contains a zero byte");
    }
    Ok(target.to_vec())
}

fn attributes(member: &Member) -> Attributes {
    let reserved = |name: &[u8]| RESERVED_XATTRS.iter().any(|prefix| name.starts_with(prefix));
    let xattrs = member.xattrs.iter();
    Attributes {
        permissions: member.permissions,
        uid: member.uid,
        gid: member.gid,
        modified: member.modified,
        modified_nanoseconds: member.modified_nanoseconds,
        xattrs: xattrs
            .filter(|(name, value)| !reserved(name) && erofs::is_storable(name, value))
            .cloned()
            .collect(),
    }
}

#[cfg(test)]
mod tests;
