//! Writes one layer as an EROFS blob, the read-only file system the machine maps into compartments.
//!
//! ```text
//! block 0          superblock
//! blocks 1..       contents of files from half a page up, page-aligned, in the order of the archive
//! then             whole blocks of large directories
//! then             metadata: inodes with their attributes, small files, directory tails, symbolic links
//! ```
//! Owns: the blob's bytes. Must not know: where the tree comes from. Invariants: bytes after the end of a file are zero; the blob depends on
//! the layer alone (no time, no randomness); it holds no compression, so a page of a file is a page of the blob.

mod directory;
mod disk;
mod layout;
pub(crate) mod reader;
mod xattr;

use super::{
    digest::{Algorithm, Digest, HashingReader},
    tree::{Contents, Kind, Node, Tree},
};
use layout::{InodePlan, Layout};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
};

pub(crate) use xattr::is_storable;

/// Files from this size up are page-aligned, smaller ones lie beside their inode.
pub(crate) const INLINE_LIMIT: u64 = disk::BLOCK / 2;

/// A finished blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
}

/// A blob being written: first the contents of large files, then everything else at once.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    file: BufWriter<File>,
    /// Bytes written so far, a multiple of the block size between calls.
    position: u64,
}

/// Blocks have 32-bit addresses.
fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the layer is too large for one blob")
}

impl BlobWriter {
    /// Starts a blob in an empty file that can be read and written.
    pub(crate) fn new(mut file: File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(disk::BLOCK))?;
        Ok(Self { file: BufWriter::with_capacity(256 * 1024, file), position: disk::BLOCK })
    }

    /// Starts a large file: its first block.
    pub(crate) fn begin_file(&mut self) -> io::Result<u32> {
        u32::try_from(self.position / disk::BLOCK).map_err(|_| too_large())
    }

    /// Appends to the large file that was begun.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros to the large file that was begun; they take no room on the host's disk.
    pub(crate) fn write_hole(&mut self, length: u64) -> io::Result<()> {
        if length < disk::BLOCK {
            let zeros = [0; disk::BLOCK_LENGTH];
            let length = usize::try_from(length).unwrap_or_default();
            return self.write(zeros.get(..length).unwrap_or_default());
        }
        self.position += length;
        self.file.seek(SeekFrom::Start(self.position)).map(|_| ())
    }

    /// Ends the large file: the rest of its last page becomes zero.
    pub(crate) fn end_file(&mut self) -> io::Result<()> {
        self.pad_to(self.position.next_multiple_of(disk::BLOCK))
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        while self.position < position {
            let length = (position - self.position).min(disk::BLOCK - 1);
            self.write_hole(length)?;
        }
        Ok(())
    }

    /// Writes directories, inodes and superblock, and names the blob by its digest.
    pub(crate) fn finish(mut self, tree: &Tree) -> io::Result<Blob> {
        let layout = Layout::new(tree);
        let directories = self.begin_file()?;
        self.write_directories(tree, &layout)?;
        let metadata = self.begin_file()?;
        let base = self.position;
        for (number, plan) in layout.inodes.iter().enumerate() {
            self.pad_to(base + plan.offset)?;
            let number = u32::try_from(number).map_err(|_| too_large())?;
            self.write_inode(tree, &layout, plan, number + 1, directories)?;
        }
        // The reference reader looks at an attribute header behind every inode, had it none; the last one's must exist too.
        self.write(&[0; disk::XATTR_HEADER])?;
        self.end_file()?;
        let blocks = self.begin_file()?;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.set_len(u64::from(blocks) * disk::BLOCK)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&superblock(blocks, metadata, layout.inodes.len() as u64))?;
        file.seek(SeekFrom::Start(0))?;
        let (digest, length) = HashingReader::new(&mut file, Algorithm::Sha256).finish()?;
        Ok(Blob { digest, length })
    }

    fn write_directories(&mut self, tree: &Tree, layout: &Layout) -> io::Result<()> {
        for plan in layout.inodes.iter().filter_map(|inode| inode.directory.as_ref()) {
            let whole = plan.ends.len() - usize::from(plan.inline);
            for entries in plan.blocks().take(whole) {
                let block = directory::encode(entries, |node| lookup(tree, layout, node));
                self.write(&block)?;
                self.end_file()?;
            }
        }
        Ok(())
    }

    fn write_inode(
        &mut self,
        tree: &Tree,
        layout: &Layout,
        plan: &InodePlan,
        number: u32,
        directories: u32,
    ) -> io::Result<()> {
        let node = tree.node(plan.node);
        let mut tail = Vec::new();
        let (mut inline, mut address, mut size) = (false, 0, 0);
        match (&node.kind, &plan.directory) {
            (_, Some(directory)) => {
                size = directory.size;
                inline = directory.inline;
                address = directories + directory.first_block;
                if let (true, Some(entries)) = (inline, directory.blocks().last()) {
                    tail = directory::encode(entries, |node| lookup(tree, layout, node));
                }
            }
            (Kind::File(Contents::Inline(bytes)) | Kind::Symlink(bytes), _) => {
                size = bytes.len() as u64;
                inline = !bytes.is_empty();
                tail.clone_from(bytes);
            }
            (Kind::File(Contents::Plain { first_block, size: length }), _) => {
                (address, size) = (*first_block, *length);
            }
            (Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor }, _) => {
                address = disk::device(*major, *minor);
            }
            _ => {}
        }
        let layout = if inline { disk::LAYOUT_INLINE } else { disk::LAYOUT_PLAIN };
        let links = match plan.directory {
            Some(_) => plan.subdirectories + 2,
            None => node.links,
        };
        let mut inode = Vec::with_capacity(disk::BLOCK_LENGTH);
        inode.extend_from_slice(&(disk::FORMAT_EXTENDED | layout << 1).to_le_bytes());
        inode.extend_from_slice(&xattr::count(&plan.xattrs).to_le_bytes());
        inode.extend_from_slice(&mode(node).to_le_bytes());
        inode.extend_from_slice(&[0; 2]);
        inode.extend_from_slice(&size.to_le_bytes());
        for word in [address, number, node.attributes.uid, node.attributes.gid] {
            inode.extend_from_slice(&word.to_le_bytes());
        }
        inode.extend_from_slice(&node.attributes.modified.to_le_bytes());
        inode.extend_from_slice(&node.attributes.modified_nanoseconds.to_le_bytes());
        inode.extend_from_slice(&links.to_le_bytes());
        inode.extend_from_slice(&[0; 16]);
        inode.extend_from_slice(&plan.xattrs);
        inode.extend_from_slice(&tail);
        self.write(&inode)
    }
}

/// A node's nid and entry type.
fn lookup(tree: &Tree, layout: &Layout, node: usize) -> (u64, u8) {
    (layout.nid(node), disk::entry_type(mode(tree.node(node))))
}

/// A node's Linux mode.
fn mode(node: &Node) -> u16 {
    let kind = match node.kind {
        Kind::Directory(_) => disk::mode::DIRECTORY,
        Kind::File(_) => disk::mode::FILE,
        Kind::Symlink(_) => disk::mode::SYMLINK,
        Kind::CharacterDevice { .. } => disk::mode::CHARACTER,
        Kind::BlockDevice { .. } => disk::mode::BLOCK,
        Kind::Fifo => disk::mode::FIFO,
        #[cfg(test)]
        Kind::Socket => disk::mode::SOCKET,
    };
    kind | (node.attributes.permissions & 0o7777)
}

/// Block 0.
fn superblock(blocks: u32, metadata: u32, inodes: u64) -> Vec<u8> {
    let mut block = vec![0; disk::SUPERBLOCK_OFFSET];
    block.extend_from_slice(&disk::MAGIC.to_le_bytes());
    block.extend_from_slice(&[0; 4]);
    let features = disk::FEATURE_CHECKSUM | disk::FEATURE_MTIME;
    block.extend_from_slice(&features.to_le_bytes());
    // Block size as a power of two, no extension slots, the root's nid.
    block.extend_from_slice(&[12, 0, 0, 0]);
    block.extend_from_slice(&inodes.to_le_bytes());
    // Build time: none, so that equal layers give equal blobs.
    block.extend_from_slice(&[0; 12]);
    for word in [blocks, metadata, 0] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    block.resize(disk::BLOCK_LENGTH, 0);
    let checksum = disk::crc32c(block.get(disk::SUPERBLOCK_OFFSET..).unwrap_or_default());
    let place = disk::SUPERBLOCK_OFFSET + 4;
    if let Some(field) = block.get_mut(place..place + 4) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
    block
}

/// Reads `length` bytes from a source into the tree's form: small ones into memory, large ones into the blob.
pub(crate) fn store_contents(
    blob: &mut BlobWriter,
    source: &mut dyn Read,
    length: u64,
) -> Result<Contents, StoreFailure> {
    if length < INLINE_LIMIT {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        source.read_exact(&mut bytes).map_err(StoreFailure::Source)?;
        return Ok(Contents::Inline(bytes));
    }
    let first_block = blob.begin_file().map_err(StoreFailure::Blob)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let portion = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = buffer.get_mut(..portion).unwrap_or_default();
        source.read_exact(part).map_err(StoreFailure::Source)?;
        blob.write(part).map_err(StoreFailure::Blob)?;
        left -= portion as u64;
    }
    blob.end_file().map_err(StoreFailure::Blob)?;
    Ok(Contents::Plain { first_block, size: length })
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum StoreFailure {
    /// The source.
    Source(io::Error),
    /// The blob.
    Blob(io::Error),
}

#[cfg(test)]
mod tests;
