//! Reading an EROFS image (Linux `Documentation/filesystems/erofs.rst`; the on-disk format of `fs/erofs/erofs_fs.h`).
//!
//! Plain and inline layouts. Nothing in the image is believed: every offset is checked where it is used; a wrong one is `EUCLEAN`, and loops cannot
//! occur because every step moves forward.

use crate::linux::{Errno, layouts::number};
use alloc::vec::Vec;

/// The image's bytes.
pub trait Bytes {
    /// A range of them; `None` beyond the end.
    fn bytes(&self, at: u64, length: usize) -> Option<&[u8]>;
}

impl Bytes for crate::machine::layer::Layer {
    fn bytes(&self, at: u64, length: usize) -> Option<&[u8]> {
        self.bytes(at, length)
    }
}

impl Bytes for Vec<u8> {
    fn bytes(&self, at: u64, length: usize) -> Option<&[u8]> {
        self.get(usize::try_from(at).ok()?..usize::try_from(at).ok()?.checked_add(length)?)
    }
}

const SUPERBLOCK: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const INODE_SLOT: u64 = 32;
const DIRENT: usize = 12;
/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Index of the `trusted.` prefix of extended attributes.
const TRUSTED: u8 = 4;
/// Names of the prefixes by index.
const PREFIXES: [&[u8]; 7] = [
    b"",
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"trusted.",
    b"lustre.",
    b"security.",
];

/// The error of a broken image.
const BROKEN: Errno = Errno::EUCLEAN;

/// An image.
#[derive(Debug)]
pub struct Image<B> {
    source: B,
    root: u64,
    inodes_at: u64,
    shared_xattrs_at: u64,
}

/// What an inode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Number.
    pub nid: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Device number in Linux's encoding.
    pub rdev: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Where whole blocks are.
    data: u64,
    /// Where the inline end is, if it has one.
    tail: Option<u64>,
    xattrs_at: u64,
    xattrs_length: u64,
}

impl<B: Bytes> Image<B> {
    /// Opens an image.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn open(source: B) -> Result<Self, Errno> {
        let block = source.bytes(SUPERBLOCK, 128).ok_or(BROKEN)?;
        if number(block, 0, 4) as u32 != MAGIC || number(block, 12, 1) != 12 {
            return Err(BROKEN);
        }
        let (root, inodes, xattrs) =
            (number(block, 14, 2), number(block, 40, 4), number(block, 44, 4));
        Ok(Self { source, root, inodes_at: inodes * BLOCK, shared_xattrs_at: xattrs * BLOCK })
    }

    /// The bytes behind it.
    pub const fn source(&self) -> &B {
        &self.source
    }

    /// Number of the root directory.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn inode(&self, nid: u64) -> Result<Inode, Errno> {
        let at = nid
            .checked_mul(INODE_SLOT)
            .and_then(|offset| offset.checked_add(self.inodes_at))
            .ok_or(BROKEN)?;
        let head = self.source.bytes(at, 32).ok_or(BROKEN)?;
        let format = number(head, 0, 2);
        let is_extended = format & 1 != 0;
        let layout = format >> 1 & 7;
        let xattr_count = number(head, 2, 2);
        let mode = number(head, 4, 2) as u32;
        let length = if is_extended { 64 } else { 32 };
        let bytes = self.source.bytes(at, length).ok_or(BROKEN)?;
        let field = |at, length| number(bytes, at, length);
        let (size, uid, gid, nlink, modified) = if is_extended {
            (
                field(8, 8),
                field(24, 4),
                field(28, 4),
                field(44, 4),
                (field(32, 8).cast_signed(), field(40, 4) as u32),
            )
        } else {
            (field(8, 4), field(24, 2), field(26, 2), field(6, 2), (0, 0))
        };
        let xattrs_length = if xattr_count == 0 { 0 } else { 12 + 4 * (xattr_count - 1) };
        let xattrs_at = at + length as u64;
        let union = field(16, 4);
        let tail = match layout {
            0 => None,
            2 => Some(xattrs_at + xattrs_length),
            _ => return Err(BROKEN),
        };
        let is_device = matches!(mode & 0o170_000, 0o020_000 | 0o060_000);
        Ok(Inode {
            nid,
            mode,
            uid: uid as u32,
            gid: gid as u32,
            nlink: nlink as u32,
            size,
            rdev: if is_device { union } else { 0 },
            modified,
            data: union * BLOCK,
            tail,
            xattrs_at,
            xattrs_length,
        })
    }

    /// Bytes of a file from an offset: as many as lie in one piece, `length` at most. Empty at the end.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn data(&self, inode: &Inode, offset: u64, length: usize) -> Result<&[u8], Errno> {
        if offset >= inode.size {
            return Ok(&[]);
        }
        let whole = inode.size / BLOCK * BLOCK;
        let (at, end) = match inode.tail {
            Some(tail) if offset >= whole => {
                (tail.checked_add(offset - whole).ok_or(BROKEN)?, inode.size)
            }
            Some(_) => (inode.data.checked_add(offset).ok_or(BROKEN)?, whole),
            None => (inode.data.checked_add(offset).ok_or(BROKEN)?, inode.size),
        };
        let length = length.min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        self.source.bytes(at, length).ok_or(BROKEN)
    }

    /// Where a page of a file lies in the image, if it lies there as a whole page (the rest of a last page is zero).
    #[must_use]
    pub fn page_at(&self, inode: &Inode, page: u64) -> Option<u64> {
        let offset = page.checked_mul(BLOCK)?;
        let is_inline = inode.tail.is_some() && offset >= inode.size / BLOCK * BLOCK;
        (offset < inode.size && !is_inline).then(|| inode.data.checked_add(offset)).flatten()
    }

    /// A block of a directory: its entries begin with a table of them.
    fn directory_block(&self, inode: &Inode, offset: u64) -> Result<&[u8], Errno> {
        let length = (inode.size - offset).min(BLOCK) as usize;
        let block = self.data(inode, offset, length)?;
        if block.len() == length && length >= DIRENT { Ok(block) } else { Err(BROKEN) }
    }

    /// Calls a function with the name and number of every entry but `.` and `..`.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn entries(
        &self,
        directory: &Inode,
        mut each: impl FnMut(&[u8], u64),
    ) -> Result<(), Errno> {
        let mut offset = 0;
        while offset < directory.size {
            let block = self.directory_block(directory, offset)?;
            let count = entry_count(block)?;
            for index in 0..count {
                let (name, nid) = entry(block, index, count)?;
                if name != b"." && name != b".." {
                    each(name, nid);
                }
            }
            offset += BLOCK;
        }
        Ok(())
    }

    /// Finds an entry: blocks by their first name, then entries in the block.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>, Errno> {
        let blocks = directory.size.div_ceil(BLOCK);
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.directory_block(directory, middle * BLOCK)?;
            if entry(block, 0, entry_count(block)?)?.0 <= name {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(index) = low.checked_sub(1) else { return Ok(None) };
        let block = self.directory_block(directory, index * BLOCK)?;
        let count = entry_count(block)?;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, nid) = entry(block, middle, count)?;
            match found.cmp(name) {
                core::cmp::Ordering::Equal => return Ok(Some(nid)),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Calls a function with the full name and value of every extended attribute.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn xattrs(
        &self,
        inode: &Inode,
        mut each: impl FnMut(&[u8], &[u8], &[u8]),
    ) -> Result<(), Errno> {
        if inode.xattrs_length < 12 {
            return Ok(());
        }
        let body =
            self.source.bytes(inode.xattrs_at, inode.xattrs_length as usize).ok_or(BROKEN)?;
        let shared = number(body, 4, 1) as usize;
        for index in 0..shared {
            let id = number(body, 12 + 4 * index, 4);
            let at = self.shared_xattrs_at + 4 * id;
            let head = self.source.bytes(at, 4).ok_or(BROKEN)?;
            let length = 4 + number(head, 0, 1) as usize + number(head, 2, 2) as usize;
            xattr(self.source.bytes(at, length).ok_or(BROKEN)?, &mut each)?;
        }
        let mut rest = body.get(12 + 4 * shared..).ok_or(BROKEN)?;
        while rest.len() >= 4 && rest.iter().take(4).any(|byte| *byte != 0) {
            let length = xattr(rest, &mut each)?;
            rest = rest.get(length.next_multiple_of(4).min(rest.len())..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether a directory hides what lower layers have there.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn is_opaque(&self, inode: &Inode) -> Result<bool, Errno> {
        let mut opaque = false;
        self.xattrs(inode, |prefix, name, value| {
            opaque |=
                prefix == PREFIXES[TRUSTED as usize] && name == b"overlay.opaque" && value == b"y";
        })?;
        Ok(opaque)
    }
}

/// Number of entries of a block, from where the first name begins.
fn entry_count(block: &[u8]) -> Result<usize, Errno> {
    let first = number(block, 8, 2) as usize;
    if first < DIRENT || !first.is_multiple_of(DIRENT) || first > block.len() {
        Err(BROKEN)
    } else {
        Ok(first / DIRENT)
    }
}

/// Name and number of an entry.
fn entry(block: &[u8], index: usize, count: usize) -> Result<(&[u8], u64), Errno> {
    let at = index * DIRENT;
    let start = number(block, at + 8, 2) as usize;
    let end =
        if index + 1 < count { number(block, at + DIRENT + 8, 2) as usize } else { block.len() };
    let name = block.get(start..end).ok_or(BROKEN)?;
    // The last name of a block ends with the block or a zero.
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = name
        .get(..length)
        .filter(|name| !name.is_empty() && !name.contains(&b'/'))
        .ok_or(BROKEN)?;
    Ok((name, number(block, at, 8)))
}

/// One attribute; its length.
fn xattr(bytes: &[u8], each: &mut impl FnMut(&[u8], &[u8], &[u8])) -> Result<usize, Errno> {
    let (name_length, index, value_length) =
        (number(bytes, 0, 1) as usize, number(bytes, 1, 1) as usize, number(bytes, 2, 2) as usize);
    let name = bytes.get(4..4 + name_length).ok_or(BROKEN)?;
    let value = bytes.get(4 + name_length..4 + name_length + value_length).ok_or(BROKEN)?;
    each(PREFIXES.get(index).copied().unwrap_or_default(), name, value);
    Ok(4 + name_length + value_length)
}
