//! Looks up directories in a blob of the store, to learn the attributes of what a higher layer only implies.
//!
//! Reads only what [`super::BlobWriter`] writes: extended inodes, plain and inline layout. A damaged blob gives an error, never a panic.

use super::disk;
use crate::image::tree::{Attributes, Xattrs};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// Longest directory that is read.
const MAX_DIRECTORY: u64 = 64 << 20;

/// An open blob.
#[derive(Debug)]
pub(crate) struct BlobReader {
    file: File,
    metadata: u64,
    root: u64,
}

/// What an inode says.
struct Inode {
    position: u64,
    inline: bool,
    xattrs: u64,
    mode: u16,
    size: u64,
    address: u32,
    attributes: Attributes,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the blob is damaged")
}

/// Reads integers from bytes, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

impl BlobReader {
    /// Opens a blob.
    pub(crate) fn new(mut file: File) -> io::Result<Self> {
        let mut block = vec![0; disk::BLOCK_LENGTH];
        file.read_exact(&mut block)?;
        let mut fields = Fields(block.get(disk::SUPERBLOCK_OFFSET..).ok_or_else(damaged)?);
        if fields.u32()? != disk::MAGIC {
            return Err(damaged());
        }
        fields.take::<10>()?;
        let root = u64::from(fields.u16()?);
        fields.take::<24>()?;
        let metadata = u64::from(fields.u32()?) * disk::BLOCK;
        Ok(Self { file, metadata, root })
    }

    /// The attributes of the directory with this path; none when there is no such directory.
    pub(crate) fn directory(&mut self, path: &[Vec<u8>]) -> io::Result<Option<Attributes>> {
        let mut inode = self.inode(self.root)?;
        for name in path {
            match self.lookup(&inode, name)? {
                Some(nid) => inode = self.inode(nid)?,
                None => return Ok(None),
            }
            if inode.mode & disk::mode::TYPE != disk::mode::DIRECTORY {
                return Ok(None);
            }
        }
        inode.attributes.xattrs = self.xattrs(&inode)?;
        Ok(Some(inode.attributes))
    }

    fn read(&mut self, position: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        self.file.seek(SeekFrom::Start(position))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn inode(&mut self, nid: u64) -> io::Result<Inode> {
        let position = nid
            .checked_mul(disk::INODE_SLOT)
            .and_then(|offset| offset.checked_add(self.metadata))
            .ok_or_else(damaged)?;
        let bytes = self.read(position, disk::INODE)?;
        let mut fields = Fields(&bytes);
        let format = fields.u16()?;
        let count = u64::from(fields.u16()?);
        let mode = fields.u16()?;
        fields.u16()?;
        let size = fields.u64()?;
        let address = fields.u32()?;
        fields.u32()?;
        let (uid, gid) = (fields.u32()?, fields.u32()?);
        let modified = fields.u64()?.cast_signed();
        let attributes = Attributes {
            permissions: mode & 0o7777,
            uid,
            gid,
            modified,
            modified_nanoseconds: fields.u32()?,
            xattrs: Xattrs::new(),
        };
        let inline = format >> 1 & 7 == disk::LAYOUT_INLINE;
        let xattrs = if count == 0 { 0 } else { disk::XATTR_HEADER as u64 + 4 * (count - 1) };
        Ok(Inode { position, inline, xattrs, mode, size, address, attributes })
    }

    fn xattrs(&mut self, inode: &Inode) -> io::Result<Xattrs> {
        let mut found = Xattrs::new();
        let bytes = self.read(inode.position + disk::INODE, inode.xattrs)?;
        let mut rest = bytes.get(disk::XATTR_HEADER..).unwrap_or_default();
        while let Some(([name_length, index, low, high], after)) = rest.split_first_chunk::<4>() {
            let name_length = usize::from(*name_length);
            let value_length = usize::from(u16::from_le_bytes([*low, *high]));
            let (name, after) = after.split_at_checked(name_length).ok_or_else(damaged)?;
            let (value, _) = after.split_at_checked(value_length).ok_or_else(damaged)?;
            let prefix = disk::XATTR_PREFIXES.iter().find(|(_, number)| number == index);
            if let Some((prefix, _)) = prefix {
                found.insert([prefix, name].concat(), value.to_vec());
            }
            let used = (disk::XATTR_ENTRY + name_length + value_length).next_multiple_of(4);
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(found)
    }

    fn lookup(&mut self, inode: &Inode, name: &[u8]) -> io::Result<Option<u64>> {
        if inode.size > MAX_DIRECTORY {
            return Err(damaged());
        }
        let tail = if inode.inline { inode.size % disk::BLOCK } else { 0 };
        let mut bytes = self.read(u64::from(inode.address) * disk::BLOCK, inode.size - tail)?;
        bytes.extend(self.read(inode.position + disk::INODE + inode.xattrs, tail)?);
        for block in bytes.chunks(disk::BLOCK_LENGTH) {
            if let Some(nid) = lookup_in_block(block, name)? {
                return Ok(Some(nid));
            }
        }
        Ok(None)
    }
}

/// Finds a name in one block of entries.
fn lookup_in_block(block: &[u8], name: &[u8]) -> io::Result<Option<u64>> {
    let names = usize::from(Fields(block.get(8..).ok_or_else(damaged)?).u16()?);
    let mut entries = block.get(..names).ok_or_else(damaged)?.chunks_exact(disk::ENTRY).peekable();
    while let Some(entry) = entries.next() {
        let mut fields = Fields(entry);
        let nid = fields.u64()?;
        let start = usize::from(fields.u16()?);
        let end = match entries.peek() {
            Some(next) => usize::from(Fields(next.get(8..).ok_or_else(damaged)?).u16()?),
            None => block.len(),
        };
        let found = block.get(start..end).ok_or_else(damaged)?;
        let found = found.split(|byte| *byte == 0).next().unwrap_or_default();
        if found == name {
            return Ok(Some(nid));
        }
    }
    Ok(None)
}
